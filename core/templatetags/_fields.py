"""What `{% form_field %}` needs to know about a bound field."""

from __future__ import annotations

from typing import Any

from django import forms
from django.forms import BoundField

_CHECKS = (forms.CheckboxInput,)
_GROUPS = (forms.RadioSelect, forms.CheckboxSelectMultiple)
_SELECTS = (forms.Select, forms.SelectMultiple)


def _css(widget: forms.Widget) -> str:
    if isinstance(widget, (*_CHECKS, *_GROUPS)):
        base = "form-check-input"
    elif isinstance(widget, _SELECTS):
        base = "form-select"
    else:
        base = "form-control"
    return f"{base} {widget.attrs.get('class', '')}".strip()


def _options(field: BoundField, css: str) -> list[dict[str, str]]:
    """The radios or checkboxes of a group, each as {tag, label, id}."""
    options = []
    for part in field.subwidgets:
        part.data["attrs"]["class"] = css
        options.append({"tag": part.tag(), "label": str(part.choice_label), "id": part.id_for_label})
    return options


def context(field: BoundField, *, label: str, hint: str, prefix: str, suffix: str, css: str) -> dict[str, Any]:
    """The context of `components/form_field.html`; the control is rendered here, with its aria attributes."""
    widget = field.field.widget
    help_text = hint or str(field.help_text)
    base = field.auto_id or field.html_name
    ids = [f"{base}_help"] if help_text else []
    ids += [f"{base}_error"] if field.errors else []
    attrs: dict[str, Any] = {"class": _css(widget)}
    if ids:
        attrs["aria-describedby"] = " ".join([*ids, *str(widget.attrs.get("aria-describedby", "")).split()])
    if field.errors:
        attrs["class"] += " is-invalid"
        attrs["aria-invalid"] = "true"
    kind = "check" if isinstance(widget, _CHECKS) else "group" if isinstance(widget, _GROUPS) else "plain"
    options = _options(field, attrs["class"]) if kind == "group" else []
    return {
        "field": field,
        "kind": "hidden" if widget.is_hidden else kind,
        "control": "" if kind == "group" else field.as_widget(attrs=attrs),
        "options": options,
        "label": label or str(field.label or ""),
        "help_text": help_text,
        "help_id": f"{base}_help",
        "error_id": f"{base}_error",
        "described_by": " ".join(ids),
        "optional": not field.field.required and kind != "check",
        "prefix": prefix,
        "suffix": suffix,
        "css": css,
    }
