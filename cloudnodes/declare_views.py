"""Pages of nodes that were declared by hand, and of what changed outside Curfew."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import selectors as accounts
from accounts.access import signed_in
from accounts.providers.aws_template import TRAIL_ACTIONS
from cloudnodes import declaring, drift
from cloudnodes.enums import PROVIDERS
from cloudnodes.models import CloudNode
from core.actor import Actor
from core.errors import InvalidInput
from core.htmx import redirect, render_page

MOST_BYTES = 1_000_000


class DeclareForm(forms.Form):
    """One node."""

    account = forms.ChoiceField(label="Account")
    provider_id = forms.CharField(
        label="The provider's id",
        max_length=400,
        help_text="Such as i-0123456789abcdef0, the resource id of an Azure machine, a service's full name, or a container's id.",
    )
    node_type = forms.CharField(label="Node type", max_length=120, help_text="The row's name, such as FLUX Dev.")
    gpu_tier = forms.CharField(
        label="GPU tier", required=False, max_length=40, help_text="Such as a10g. Empty: from its machine type."
    )
    region = forms.CharField(label="Region", required=False, max_length=60, help_text="Empty: the account's own.")
    hourly_cost = forms.DecimalField(
        label="Price an hour",
        required=False,
        min_value=Decimal(0),
        max_value=Decimal(10_000),
        help_text="Empty: from the price book.",
    )

    def __init__(self, *args: Any, choices: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["account"].choices = choices  # type: ignore[attr-defined]


class FileForm(forms.Form):
    """Many nodes."""

    file = forms.FileField(
        label="CSV file", help_text=f"Columns: {', '.join(declaring.COLUMNS)}; the last three may be left out."
    )


def _actor(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


@signed_in
@require_http_methods(["GET", "POST"])
def declare_page(request: HttpRequest) -> HttpResponse:
    """Declare one node by form, or many by file; what was declared stands below."""
    actor = _actor(request)
    actor.require("nodes.view", "see cloud nodes")
    choices = [(str(a.id), a.name) for a in accounts.list_accounts(actor=actor) if a.provider in PROVIDERS and a.method]
    by_file = request.method == "POST" and "upload" in request.POST
    form = DeclareForm(request.POST if request.method == "POST" and not by_file else None, choices=choices)
    file_form = FileForm(request.POST, request.FILES) if by_file else FileForm()
    errors: dict[str, list[str]] = {}
    if request.method == "POST":
        actor.require("nodes.manage", "declare cloud nodes")
        chosen: forms.Form = file_form if by_file else form
        if chosen.is_valid():
            try:
                rows = _uploaded(chosen.cleaned_data["file"]) if by_file else _typed(chosen.cleaned_data)
                new = declaring.declare(actor=actor, rows=rows)
            except InvalidInput as refused:
                errors = refused.errors
                _refuse(chosen, refused.message, {} if by_file else errors)
            else:
                messages.success(
                    request, f"Declared {len(rows)}, {new} of them new. The next look, within seconds, finds them."
                )
                return redirect(request, reverse("cloudnodes:declare"))
    context = {
        "page_title": "Declared nodes",
        "form": form,
        "file_form": file_form,
        "errors": errors,
        "choices": choices,
        "nodes": list(
            CloudNode.objects.visible_to(actor)
            .exclude(declared={})
            .select_related("node_type", "account")
            .order_by("-created_at")[:500]
        ),
        "may_manage": actor.can("nodes.manage"),
    }
    status = 422 if form.errors or file_form.errors else 200
    return render_page(request, "cloudnodes/declare.html", context, fragment="declared", status=status)


def _refuse(form: forms.Form, message: str, errors: dict[str, list[str]]) -> None:
    """Put each error beside its field; without one, the message above the form."""
    beside = {name: said for name, said in errors.items() if name in form.fields}
    for name, said in beside.items():
        form.add_error(name, said)
    if not beside:
        form.add_error(None, message)


def _typed(given: dict[str, Any]) -> list[declaring.Declaration]:
    row, wrong = declaring.checked(given)
    if row is None:
        told = (words.partition(" ") for words in wrong)
        raise InvalidInput(errors={name: [f"{said[:1].upper()}{said[1:]}."] for name, _, said in told})
    return [row]


def _uploaded(file: Any) -> list[declaring.Declaration]:
    if file.size > MOST_BYTES:
        raise InvalidInput("The file is larger than 1 MB.")
    try:
        text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput("The file is not text in UTF-8. Save it as CSV in UTF-8, then choose it again.") from None
    return declaring.read_csv(text.splitlines())


@signed_in
@require_GET
def example(request: HttpRequest) -> HttpResponse:
    """A file to start from."""
    headers = {"Content-Disposition": 'attachment; filename="curfew-nodes.csv"'}
    return HttpResponse(declaring.example(), content_type="text/csv; charset=utf-8", headers=headers)


@signed_in
@require_POST
def withdraw(request: HttpRequest, node_id: UUID) -> HttpResponse:
    """Take one declaration back."""
    declaring.withdraw(actor=_actor(request), node_id=node_id)
    messages.success(request, "Taken back. Without a tag of its own, Curfew leaves the node alone from now on.")
    return redirect(request, reverse("cloudnodes:declare"))


@signed_in
@require_GET
def drift_page(request: HttpRequest) -> HttpResponse:
    """What changed outside Curfew in the last thirty days."""
    actor = _actor(request)
    context = {
        "page_title": "Changed outside",
        "rows": drift.list_drift(actor=actor),
        "days": drift.DAYS,
        "may_manage": actor.can("nodes.manage"),
    }
    return render_page(request, "cloudnodes/drift.html", context, fragment="body")


@signed_in
@require_GET
def untold(request: HttpRequest) -> HttpResponse:
    """Accounts whose log Curfew may not read, as a fragment; empty when there are none."""
    rows = drift.untold(actor=_actor(request))
    return render_page(request, "cloudnodes/partials/_untold.html", {"rows": rows, "right": TRAIL_ACTIONS[0]})
