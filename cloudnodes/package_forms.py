"""The form of a new install package: which nodes, from which images, on which engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.forms import BoundField

from accounts.models import CloudAccount
from cloudnodes.package_selectors import Choice, Package
from cloudnodes.packages.format import PackageProblem, with_tag
from core.errors import InvalidInput

OTHER = "other"


@dataclass(frozen=True, slots=True)
class Row:
    """One node of the form: its box and the field of its image."""

    choice: Choice
    checked: bool
    image: BoundField


class PackageForm(forms.Form):
    """Boxes named `nodes` with the slugs, and for each a field `image-<slug>`; one more node by name."""

    title = forms.CharField(
        label="Name of the package",
        max_length=200,
        required=False,
        help_text="The names of its nodes when you leave it empty.",
    )
    account = forms.ChoiceField(label="Docker engine", help_text="Its images go into the package.")
    base = forms.ChoiceField(
        label="Upgrade of",
        required=False,
        help_text="Only layers that the earlier package lacks are packed; it must be installed on the workstation.",
    )
    pull = forms.BooleanField(label="Pull images that the engine lacks", required=False, initial=True)
    sign = forms.BooleanField(label="Sign it with the key of this installation", required=False, initial=True)
    other_name = forms.CharField(label="Another node", max_length=120, required=False)
    other_image = forms.CharField(label="Its image", max_length=380, required=False)

    def __init__(
        self, data: Any, *, choices: Sequence[Choice], engines: Sequence[CloudAccount], bases: Sequence[Package]
    ) -> None:
        super().__init__(data)
        self.node_choices = list(choices)
        account, base = self.fields["account"], self.fields["base"]
        assert isinstance(account, forms.ChoiceField)
        assert isinstance(base, forms.ChoiceField)
        account.choices = [(str(a.id), a.name) for a in engines]
        base.choices = [("", "nothing: a full package"), *((str(p.id), p.title) for p in bases)]
        for choice in self.node_choices:
            self.fields[f"image-{choice.slug}"] = forms.CharField(
                label=f"Image of {choice.name}",
                required=False,
                max_length=380,
                initial=choice.image,
                widget=forms.TextInput(
                    attrs={
                        "class": "form-control form-control-sm",
                        "aria-label": f"Image of {choice.name}",
                        "placeholder": choice.suggestion,
                        "spellcheck": "false",
                        "autocomplete": "off",
                    }
                ),
            )

    @property
    def checked(self) -> list[str]:
        return self.data.getlist("nodes") if self.is_bound and hasattr(self.data, "getlist") else []

    def rows(self) -> list[Row]:
        return [Row(c, c.slug in self.checked, self[f"image-{c.slug}"]) for c in self.node_choices]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if given.get("other_image") and not given.get("other_name"):
            self.add_error("other_name", "Name the node that this image is for.")
        if not self.names():
            self.add_error(None, "Choose at least one node.")
        for name in ("other_image", *(f"image-{row.choice.slug}" for row in self.rows() if row.checked)):
            self._check_image(name, given.get(name) or "")
        return given

    def _check_image(self, field: str, reference: str) -> None:
        if not reference.strip():
            return
        try:
            with_tag(reference.strip())
        except PackageProblem as problem:
            self.add_error(field, f"{problem.message} {problem.next_step}")

    def names(self) -> list[str]:
        """The chosen nodes by name."""
        found = [c.name for c in self.node_choices if c.slug in self.checked]
        other = self.cleaned_data.get("other_name", "").strip()
        return [*found, other] if other else found

    def images(self) -> dict[str, str]:
        """The image of each chosen node for which one was named."""
        given = self.cleaned_data
        found = {c.name: given.get(f"image-{c.slug}", "") for c in self.node_choices if c.slug in self.checked}
        if given.get("other_name", "").strip():
            found[given["other_name"].strip()] = given.get("other_image", "")
        return {name: image.strip() for name, image in found.items() if image.strip()}

    def show(self, error: InvalidInput) -> None:
        """Put the refusal of a service beside its field, else above the form."""
        for field, words in error.errors.items() or {"": [error.message]}.items():
            for text in words:
                self.add_error(field if field in self.fields else None, text)
