"""Machines and snapshots over HTTP. Slow work answers 202 with its operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from core.api.pagination import Pages
from core.api.views import CurfewAPIView
from core.errors import InvalidInput
from gpu_fleet import offers, selectors, services
from gpu_fleet.api import serializers, shapes
from gpu_fleet.wanted import Wanted
from operations.api.serializers import AcceptedSerializer
from operations.api.shapes import accepted
from operations.models import Operation

ANY = OpenApiTypes.OBJECT
TAGS = ["gpu fleet"]
KEY = OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER)
Shape = TypeVar("Shape", bound=Serializer)


class FleetView(CurfewAPIView):
    """Reading what was sent."""

    def read(self, shape: type[Shape], data: Any = None) -> dict[str, Any]:
        serializer = shape(data=self.request.data if data is None else data)
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def key(self) -> str | None:
        given = self.request.headers.get("Idempotency-Key", "").strip()
        if len(given) > 80:
            raise InvalidInput(errors={"Idempotency-Key": ["At most 80 characters."]})
        return given or None

    def accepted(self, operation: Operation, **more: Any) -> Response:
        body, headers = accepted(operation)
        return Response({**body, **more}, status=202, headers=headers)


class InstancesView(FleetView):
    @extend_schema(operation_id="instances_list", responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """Machines by name; `search` narrows."""
        self.actor.require("gpu.view", "see GPU machines")
        rows = selectors.list_machines(actor=self.actor)
        wanted = request.query_params.get("search", "").lower()
        rows = [row for row in rows if wanted in f"{row.name} {row.provider} {row.wanted.get('gpu_name')}".lower()]
        pages = Pages()
        page: list[Any] = pages.paginate_queryset(rows, request, view=self) or []
        active = selectors.active_operations([row.id for row in page])
        return pages.get_paginated_response([shapes.machine_shape(row, active.get(row.id)) for row in page])

    @extend_schema(
        operation_id="instances_create",
        request=serializers.MachineWriteSerializer,
        responses={202: AcceptedSerializer},
        parameters=[KEY],
        tags=TAGS,
    )
    def post(self, request: Request) -> Response:
        """Deploy a machine: the multi-start race begins at once."""
        given = self.read(serializers.MachineWriteSerializer)
        facts = {name: given.pop(name) for name in ("name", "account_id", "auto_sleep", "idle_minutes")}
        machine, operation = services.create_machine(
            actor=self.actor, wanted=given, idempotency_key=self.key(), **facts
        )
        return self.accepted(operation, instance=shapes.machine_shape(machine, operation))


class InstanceView(FleetView):
    @extend_schema(operation_id="instances_retrieve", responses=ANY, tags=TAGS)
    def get(self, request: Request, machine_id: UUID) -> Response:
        """One machine, with the lanes of its last race and the address of whoever serves now: it, or its standby."""
        machine = services.find_machine(actor=self.actor, machine_id=machine_id)
        active = selectors.active_operations([machine.id]).get(machine.id)
        race = selectors.last_race(machine=machine)
        address = shapes.address_shape(selectors.serving_rental(machine=machine))
        more = {"address": address, "race": [shapes.rental_shape(row) for row in race]}
        return Response({**shapes.machine_shape(machine, active), **more})

    @extend_schema(
        operation_id="instances_delete",
        request=serializers.DestroySerializer,
        responses={202: AcceptedSerializer},
        tags=TAGS,
    )
    def delete(self, request: Request, machine_id: UUID) -> Response:
        """Destroy it without a backup; its snapshots stay. The name is repeated in the body or as `?name=`."""
        services.find_machine(actor=self.actor, machine_id=machine_id)
        self.actor.require("gpu.manage", "destroy GPU machines")
        given = request.data or {"name": request.query_params.get("name", "")}
        name = self.read(serializers.DestroySerializer, given)["name"]
        return self.accepted(
            services.request_destroy(actor=self.actor, machine_id=machine_id, name=name, idempotency_key=self.key())
        )


class OrderView(FleetView):
    """One verb that starts an operation on a machine."""

    order: ClassVar[Callable[..., Operation]]

    @extend_schema(
        request=serializers.ReasonSerializer, responses={202: AcceptedSerializer}, parameters=[KEY], tags=TAGS
    )
    def post(self, request: Request, machine_id: UUID) -> Response:
        """An order of this kind that is under way already is answered with its operation."""
        reason = self.read(serializers.ReasonSerializer)["reason"]
        operation = type(self).order(actor=self.actor, machine_id=machine_id, reason=reason, idempotency_key=self.key())
        return self.accepted(operation)


class WakeView(OrderView):
    order = staticmethod(services.request_wake)


class HibernateView(OrderView):
    order = staticmethod(services.request_hibernate)


class SyncView(OrderView):
    order = staticmethod(services.request_snapshot)


class PauseView(OrderView):
    order = staticmethod(services.request_pause)


class ResumeView(OrderView):
    order = staticmethod(services.request_resume)


class MigrateView(FleetView):
    @extend_schema(
        request=serializers.WantedSerializer, responses={202: AcceptedSerializer}, parameters=[KEY], tags=TAGS
    )
    def post(self, request: Request, machine_id: UUID) -> Response:
        """Move it to another host; what is given changes what it wants, such as another GPU."""
        wanted = self.read(serializers.WantedSerializer)
        return self.accepted(
            services.request_migrate(actor=self.actor, machine_id=machine_id, wanted=wanted, idempotency_key=self.key())
        )


class MigrateEstimateView(FleetView):
    @extend_schema(parameters=[serializers.WantedSerializer], responses=ANY, tags=TAGS)
    def get(self, request: Request, machine_id: UUID) -> Response:
        """What a move would take and cost, from this machine's own snapshots and learned durations; null is unknown."""
        machine = services.find_machine(actor=self.actor, machine_id=machine_id)
        given = self.read(serializers.WantedSerializer, request.query_params)
        best, problems = offers.best_elsewhere(actor=self.actor, machine=machine, given=given)
        return Response(
            {
                **selectors.move_facts(machine=machine),
                "offer": shapes.offer_shape(best) if best else None,
                "current_hourly_cost": shapes.money(machine.hourly_cost),
                "currency": shapes.CURRENCY,
                "problems": problems,
            }
        )


class KeepAwakeView(FleetView):
    @extend_schema(
        request=serializers.KeepAwakeSerializer,
        responses=ANY,
        parameters=[OpenApiParameter("minutes", float)],
        tags=TAGS,
    )
    def post(self, request: Request, machine_id: UUID) -> Response:
        """Keep it awake for so many minutes, whatever it does; 0 ends that."""
        given = request.data or (
            {"minutes": request.query_params["minutes"]} if "minutes" in request.query_params else {}
        )
        minutes = self.read(serializers.KeepAwakeSerializer, given)["minutes"]
        row = services.keep_awake(actor=self.actor, machine_id=machine_id, minutes=minutes)
        return Response(shapes.machine_shape(services.find_machine(actor=self.actor, machine_id=row.id)))


class OffersView(FleetView):
    @extend_schema(parameters=[serializers.OfferQuerySerializer], responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """What the market offers now for a search, cheapest first; an account that cannot be read is named."""
        given = self.read(serializers.OfferQuerySerializer, request.query_params)
        found = offers.search_offers(
            actor=self.actor, account_id=given.pop("account_id", None), wanted=Wanted.of(given)
        )
        results = [{**shapes.offer_shape(offer), "account_id": str(account.id)} for account, offer in found.offers]
        return Response({"count": len(results), "results": results, "problems": found.problems})


class SnapshotsView(FleetView):
    @extend_schema(
        operation_id="snapshots_list", responses=ANY, parameters=[OpenApiParameter("machine_id", str)], tags=TAGS
    )
    def get(self, request: Request) -> Response:
        """Snapshots, newest first."""
        rows = selectors.list_snapshots(actor=self.actor, machine_id=request.query_params.get("machine_id") or None)
        pages = Pages()
        page: list[Any] = pages.paginate_queryset(rows, request, view=self) or []
        return pages.get_paginated_response([shapes.snapshot_shape(row) for row in page])

    @extend_schema(
        operation_id="snapshots_create",
        request=serializers.SnapshotWriteSerializer,
        responses={202: AcceptedSerializer},
        parameters=[KEY],
        tags=TAGS,
    )
    def post(self, request: Request) -> Response:
        """Take a verified snapshot of a machine that is awake."""
        given = self.read(serializers.SnapshotWriteSerializer)
        return self.accepted(services.request_snapshot(actor=self.actor, idempotency_key=self.key(), **given))


class SnapshotView(FleetView):
    @extend_schema(operation_id="snapshots_delete", responses={204: None}, tags=TAGS)
    def delete(self, request: Request, snapshot_id: UUID) -> Response:
        """Forget it and free its space; never the newest verified one."""
        services.delete_snapshot(actor=self.actor, snapshot_id=snapshot_id)
        return Response(status=204)


class SnapshotRestoreView(FleetView):
    @extend_schema(request=serializers.RestoreSerializer, responses={202: AcceptedSerializer}, tags=TAGS)
    def post(self, request: Request, snapshot_id: UUID) -> Response:
        """Bring it back into its machine, which has to be awake."""
        snapshot = services.find_snapshot(actor=self.actor, snapshot_id=snapshot_id)
        given = self.read(serializers.RestoreSerializer)
        machine_id = given.get("machine_id") or snapshot.machine_id
        return self.accepted(
            services.request_restore(
                actor=self.actor, machine_id=machine_id, snapshot_id=snapshot_id, idempotency_key=self.key()
            )
        )


class SnapshotVerifyView(FleetView):
    @extend_schema(request=None, responses=ANY, tags=TAGS)
    def post(self, request: Request, snapshot_id: UUID) -> Response:
        """Compare it with the hashes of the machine again, and read files back."""
        row = services.verify_again(actor=self.actor, snapshot_id=snapshot_id)
        return Response(shapes.snapshot_shape(row))


class SettingsView(FleetView):
    @extend_schema(operation_id="gpu_settings_retrieve", responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """How the fleet behaves; no secret."""
        return Response(shapes.settings_shape(selectors.get_settings(actor=self.actor)))

    @extend_schema(operation_id="gpu_settings_update", request=serializers.SettingsSerializer, responses=ANY, tags=TAGS)
    def put(self, request: Request) -> Response:
        """Change what is given."""
        self.actor.require("gpu.manage", "change the settings of the GPU fleet")
        given = self.read(serializers.SettingsSerializer)
        return Response(shapes.settings_shape(services.change_settings(actor=self.actor, **given)))


class AgentInstancesView(FleetView):
    @extend_schema(responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """What agents told last, by machine."""
        self.actor.require("gpu.view", "see GPU machines")
        rows = [row for row in selectors.list_machines(actor=self.actor) if row.rental_id]
        return Response({"instances": [shapes.machine_shape(row) for row in rows], "count": len(rows)})
