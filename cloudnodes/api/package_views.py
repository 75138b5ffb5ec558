"""Install packages over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponse, StreamingHttpResponse
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloudnodes import package_selectors as selectors
from cloudnodes import package_services as services
from cloudnodes.api.views import KEY, NodeAPIView
from cloudnodes.package_download import package_file
from core.api.pagination import Pages
from operations.api.serializers import AcceptedSerializer, OperationSerializer
from operations.api.shapes import accepted, moment, operation_shape


class PackageSerializer(serializers.Serializer):
    """One install package. `download_url` is null unless its file is there."""

    id = serializers.UUIDField()
    title = serializers.CharField()
    status = serializers.ChoiceField(choices=["building", "ready", "deleted", "failed", "cancelled"])
    nodes = serializers.ListField(child=serializers.CharField())
    images = serializers.ListField(child=serializers.CharField())
    file_name = serializers.CharField()
    size = serializers.IntegerField(allow_null=True, help_text="Bytes; null until it is built.")
    manifest_sha256 = serializers.CharField(
        allow_blank=True,
        help_text="Of the manifest, which lists every file with its own; `install.py verify` shows it.",
    )
    public_key = serializers.CharField(allow_blank=True, help_text="Empty when it is not signed.")
    base = serializers.UUIDField(allow_null=True, help_text="The package that this upgrade builds upon.")
    omitted_layers = serializers.IntegerField()
    warnings = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()
    download_url = serializers.CharField(allow_null=True)
    operation = OperationSerializer()


class NewPackageSerializer(serializers.Serializer):
    """What to pack."""

    nodes = serializers.ListField(child=serializers.CharField(max_length=120), allow_empty=False, max_length=100)
    images = serializers.DictField(
        child=serializers.CharField(max_length=380),
        required=False,
        help_text="The image of a node where none is known.",
    )
    account = serializers.UUIDField(required=False, help_text="The Docker engine; needed when several are connected.")
    title = serializers.CharField(required=False, allow_blank=True, max_length=200)
    base = serializers.UUIDField(
        required=False, allow_null=True, help_text="An earlier package: only layers that it lacks are packed."
    )
    pull = serializers.BooleanField(required=False, default=False)
    sign = serializers.BooleanField(required=False, default=True)


def package_shape(package: selectors.Package) -> dict[str, Any]:
    """Plain JSON values of one package."""
    return {
        "id": str(package.id),
        "title": package.title,
        "status": package.status,
        "nodes": package.nodes,
        "images": package.images,
        "file_name": package.file_name,
        "size": package.size,
        "manifest_sha256": package.manifest_sha256,
        "public_key": package.public_key,
        "base": package.base or None,
        "omitted_layers": package.omitted_layers,
        "warnings": package.warnings,
        "created_at": moment(package.created_at),
        "download_url": reverse("api:install-package-download", args=[package.id]) if package.path else None,
        "operation": operation_shape(package.operation),
    }


class PackageListView(NodeAPIView):
    """Install packages, newest first."""

    pagination_class = Pages

    @extend_schema(
        operation_id="install_packages_list", responses=PackageSerializer(many=True), tags=["install packages"]
    )
    def get(self, request: Request) -> Response:
        """Every install package of the organization."""
        self.actor.require("nodes.view", "see install packages")
        pages = Pages()
        rows = pages.paginate_queryset(selectors.package_query(actor=self.actor), request, view=self)
        return pages.get_paginated_response([package_shape(selectors.package_of(row)) for row in rows or []])

    @extend_schema(
        operation_id="install_packages_create",
        request=NewPackageSerializer,
        responses={202: AcceptedSerializer},
        parameters=[KEY],
        tags=["install packages"],
    )
    def post(self, request: Request) -> Response:
        """Build a package; the operation's resource id is the package's id."""
        given = self.read(NewPackageSerializer)
        operation = services.request_package(
            actor=self.actor,
            nodes=given["nodes"],
            images=given.get("images"),
            account_id=given.get("account"),
            title=given.get("title", ""),
            base_id=given.get("base"),
            pull=given["pull"],
            sign=given["sign"],
            idempotency_key=self.key(),
        )
        body, headers = accepted(operation)
        return Response(body, status=202, headers=headers)


class PackageView(NodeAPIView):
    """One install package."""

    @extend_schema(operation_id="install_packages_retrieve", responses=PackageSerializer, tags=["install packages"])
    def get(self, request: Request, package_id: UUID) -> Response:
        """What it holds, how far it is, where its file is."""
        self.actor.require("nodes.view", "see install packages")
        return Response(package_shape(selectors.get_package(actor=self.actor, package_id=package_id)))

    @extend_schema(operation_id="install_packages_destroy", responses={204: None}, tags=["install packages"])
    def delete(self, request: Request, package_id: UUID) -> Response:
        """Delete its file; the record stays."""
        services.delete_package(actor=self.actor, package_id=package_id)
        return Response(status=204)


class PackageDownloadView(NodeAPIView):
    """The ZIP of a package; one byte range may be asked for."""

    @extend_schema(
        operation_id="install_packages_download",
        responses={(200, "application/zip"): OpenApiTypes.BINARY},
        tags=["install packages"],
    )
    def get(self, request: Request, package_id: UUID) -> HttpResponse | StreamingHttpResponse:
        """The file itself."""
        return package_file(request._request, self.actor, package_id)
