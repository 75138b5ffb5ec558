"""Pages of install packages: choose nodes, watch the package being built, take it away."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.access import signed_in
from cloudnodes import package_selectors as selectors
from cloudnodes import package_services as services
from cloudnodes.package_download import package_file
from cloudnodes.package_forms import PackageForm
from core.actor import Actor
from core.errors import InvalidInput
from core.htmx import redirect, render_page
from operations import selectors as operations


def _actor(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


@signed_in
@require_http_methods(["GET", "POST"])
def packages(request: HttpRequest) -> HttpResponse:
    """All packages, and the form of a new one for whoever may build."""
    actor = _actor(request)
    actor.require("nodes.view", "see install packages")
    engines = selectors.builders(actor=actor)
    form = PackageForm(
        request.POST if request.method == "POST" else None,
        choices=selectors.choices(actor=actor),
        engines=engines,
        bases=selectors.bases(actor=actor),
    )
    if request.method == "POST":
        actor.require(services.PERMISSION, "build install packages")
        answer = _create(request, form)
        if answer is not None:
            return answer
    context = {
        "page_title": "Install Packages",
        "packages": [(p, operations.line(p.operation)) for p in selectors.list_packages(actor=actor)],
        "form": form,
        "rows": form.rows(),
        "engines": engines,
        "may_build": actor.can(services.PERMISSION),
        "may_connect": actor.can("accounts.manage"),
        "may_download": actor.can(services.DOWNLOAD_PERMISSION),
    }
    return render_page(
        request, "cloudnodes/packages.html", context, fragment="list", status=422 if form.errors else 200
    )


def _create(request: HttpRequest, form: PackageForm) -> HttpResponse | None:
    """Queue the package; None when the form has to be shown again."""
    if not form.is_valid():
        return None
    given = form.cleaned_data
    try:
        operation = services.request_package(
            actor=_actor(request),
            nodes=form.names(),
            images=form.images(),
            account_id=UUID(given["account"]),
            title=given["title"],
            base_id=UUID(given["base"]) if given["base"] else None,
            pull=given["pull"],
            sign=given["sign"],
        )
    except InvalidInput as refused:
        form.show(refused)
        return None
    return redirect(request, reverse("cloudnodes:package", args=[operation.resource_id]))


@signed_in
@require_GET
def package(request: HttpRequest, package_id: UUID) -> HttpResponse:
    """One package: how far it is, what is in it, the lines to run on a workstation."""
    actor = _actor(request)
    actor.require("nodes.view", "see install packages")
    found = selectors.get_package(actor=actor, package_id=package_id)
    context = {
        "page_title": found.title,
        "package": found,
        "line": operations.line(found.operation),
        "operation": found.operation,
        "may_build": actor.can(services.PERMISSION),
        "may_download": actor.can(services.DOWNLOAD_PERMISSION),
        "local": services.local_engine(actor=actor),
        "installation": _installation(actor, package_id),
        "base": _base(actor, found),
        "commands": _commands(found),
    }
    return render_page(request, "cloudnodes/package.html", context, fragment="package")


def _base(actor: Actor, found: selectors.Package) -> selectors.Package | None:
    return selectors.get_package(actor=actor, package_id=UUID(found.base)) if found.base else None


def _installation(actor: Actor, package_id: UUID) -> dict[str, Any] | None:
    found = selectors.last_installation(actor=actor, package_id=package_id)
    return None if found is None else {"found": found, "row": operations.line(found.operation)}


def _commands(found: selectors.Package) -> str:
    """The three lines of the workstation."""
    name = found.file_name
    trusted = f" --public-key {found.public_key}" if found.public_key else ""
    return "\n".join(
        [
            f"python3 -c \"import zipfile; zipfile.ZipFile('{name}').extract('install.py')\"",
            f"python3 install.py --package {name}{trusted} --dry-run",
            f"python3 install.py --package {name}{trusted}",
        ]
    )


@signed_in
@require_GET
def download(request: HttpRequest, package_id: UUID) -> HttpResponse:
    """The ZIP itself."""
    return cast("HttpResponse", package_file(request, _actor(request), package_id))


@signed_in
@require_POST
def delete(request: HttpRequest, package_id: UUID) -> HttpResponse:
    """Delete the file; the record stays."""
    found = services.delete_package(actor=_actor(request), package_id=package_id)
    messages.success(request, f"The file of {found.title} is deleted. What it held stays written here.")
    return redirect(request, reverse("cloudnodes:package", args=[package_id]))


@signed_in
@require_POST
def install(request: HttpRequest, package_id: UUID) -> HttpResponse:
    """Install it on the machine that Curfew runs on."""
    services.request_install(actor=_actor(request), package_id=package_id, start=bool(request.POST.get("start")))
    return redirect(request, f"{reverse('cloudnodes:package', args=[package_id])}#here")
