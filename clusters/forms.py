"""Forms of the Add-cluster wizard."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms

from clusters.enums import Environment
from clusters.providers import kubeconfig
from clusters.providers.groups import GroupKind
from clusters.providers.karpenter import LIMITED


class ClusterForm(forms.Form):
    """What a person says about a cluster."""

    name = forms.CharField(max_length=120)
    environment = forms.ChoiceField(choices=Environment.choices, required=False)
    region = forms.CharField(max_length=60, required=False)
    team = forms.CharField(max_length=80, required=False)
    owner = forms.CharField(max_length=120, required=False)


class EditForm(ClusterForm):
    """What a person may change of a connected cluster."""

    monthly_budget = forms.DecimalField(
        required=False, min_value=Decimal("0.01"), max_digits=12, decimal_places=2, label="Budget a month, USD"
    )


class GroupForm(forms.Form):
    """New limits of a node group of the cloud; `spot` is "1", "0", or nothing to leave the purchase as it is."""

    kind = forms.ChoiceField(choices=[(kind.value, kind.value) for kind in GroupKind if kind != GroupKind.KARPENTER])
    name = forms.CharField(max_length=200)
    low = forms.IntegerField(min_value=0)
    high = forms.IntegerField(min_value=0)
    spot = forms.ChoiceField(choices=[("", ""), ("1", "1"), ("0", "0")], required=False)

    def asked(self) -> dict[str, Any]:
        """As the service takes it."""
        data = dict(self.cleaned_data)
        return {**data, "spot": None if not data["spot"] else data["spot"] == "1"}


class PoolForm(forms.Form):
    """What shall change of a NodePool: a limit that is posted empty is taken away, one that is not posted stays."""

    name = forms.CharField(max_length=253)
    cpu = forms.CharField(max_length=40, required=False)
    memory = forms.CharField(max_length=40, required=False)
    nodes = forms.CharField(max_length=40, required=False)
    replicas = forms.IntegerField(min_value=0, required=False)
    spot = forms.ChoiceField(choices=[("", ""), ("1", "1"), ("0", "0")], required=False)

    def asked(self) -> dict[str, Any]:
        """As the service takes it."""
        data = self.cleaned_data
        limits = {name: data[name] for name in LIMITED if name in self.data}
        return {
            "name": data["name"],
            "limits": limits or None,
            "replicas": data["replicas"],
            "spot": None if not data["spot"] else data["spot"] == "1",
        }


class KubeconfigForm(ClusterForm):
    """The same, with the file or its text; what is dangerous in it is refused by the service with the reason."""

    file = forms.FileField(required=False, label="Kubeconfig file")
    kubeconfig = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false"}), label="or its text"
    )

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        upload = data.get("file")
        if upload is not None:
            if upload.size > kubeconfig.LARGEST:
                self.add_error("file", f"A kubeconfig of more than {kubeconfig.LARGEST // 1024} KiB is not taken.")
            else:
                data["kubeconfig"] = upload.read().decode("utf-8", "replace")
        if not data.get("kubeconfig") and "file" not in self.errors:
            self.add_error("kubeconfig", "Choose a file or paste its text.")
        return data


class FoundForm(ClusterForm):
    """A found cluster, prefilled from its tags; and how it shall be read."""

    way = forms.ChoiceField(
        choices=[
            ("agent", "Agent: installed in the cluster, reports every change"),
            ("eks", "EKS API: nothing is installed, Curfew reads the API server once a minute"),
        ],
        initial="agent",
        widget=forms.RadioSelect,
        label="How Curfew reads it",
    )


class SearchForm(forms.Form):
    """Which account is searched, and where."""

    account = forms.UUIDField()
    regions = forms.MultipleChoiceField(required=False)

    def __init__(self, *args: Any, regions: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["regions"].choices = [(region, region) for region in regions]  # type: ignore[attr-defined]
