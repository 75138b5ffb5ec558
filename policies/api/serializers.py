"""What the API of policies reads. Meaning (what can be launched, what a document says) is checked by the services."""

from __future__ import annotations

from rest_framework import serializers

from policies.enums import Architecture, DiskType, Mode, Purchasing, Strategy


def _choices(words: type) -> list[str]:
    return [str(word) for word in words]  # type: ignore[attr-defined]


class TaintSerializer(serializers.Serializer):
    key = serializers.CharField(max_length=317)
    value = serializers.CharField(max_length=63, required=False, allow_blank=True)
    effect = serializers.ChoiceField(choices=["NoSchedule", "PreferNoSchedule", "NoExecute"], required=False)


class TemplateFieldsSerializer(serializers.Serializer):
    """Fields of a node template; those that are left out keep what they have, or their default."""

    name = serializers.CharField(max_length=63, required=False)
    description = serializers.CharField(max_length=500, required=False, allow_blank=True)
    architectures = serializers.ListField(child=serializers.ChoiceField(choices=_choices(Architecture)), required=False)
    families = serializers.ListField(child=serializers.CharField(max_length=20), required=False, max_length=200)
    excluded_sizes = serializers.ListField(child=serializers.CharField(max_length=20), required=False, max_length=200)
    purchasing = serializers.ChoiceField(choices=_choices(Purchasing), required=False)
    strategy = serializers.ChoiceField(choices=_choices(Strategy), required=False)
    on_demand_base = serializers.IntegerField(min_value=0, max_value=10_000, required=False)
    on_demand_percent = serializers.IntegerField(min_value=0, max_value=100, required=False)
    disk_type = serializers.ChoiceField(choices=_choices(DiskType), required=False)
    disk_gib = serializers.IntegerField(min_value=1, max_value=65_536, required=False)
    account_id = serializers.UUIDField(required=False, allow_null=True)
    region = serializers.CharField(max_length=60, required=False, allow_blank=True)
    security_groups = serializers.ListField(child=serializers.CharField(max_length=60), required=False, max_length=200)
    subnets = serializers.ListField(child=serializers.CharField(max_length=60), required=False, max_length=200)
    zones = serializers.ListField(child=serializers.CharField(max_length=60), required=False, max_length=200)
    labels = serializers.DictField(child=serializers.CharField(max_length=63, allow_blank=True), required=False)
    taints = TaintSerializer(many=True, required=False)
    node_role = serializers.CharField(max_length=200, required=False, allow_blank=True)
    image = serializers.CharField(max_length=30, required=False)
    limit_cpu = serializers.IntegerField(min_value=1, required=False, allow_null=True)
    limit_memory_gib = serializers.IntegerField(min_value=1, required=False, allow_null=True)
    weight = serializers.IntegerField(min_value=1, max_value=100, required=False)


class TemplatePatchSerializer(TemplateFieldsSerializer):
    is_default = serializers.BooleanField(required=False)


class TemplateWriteSerializer(TemplatePatchSerializer):
    name = serializers.CharField(max_length=63)


class CheckSerializer(TemplateFieldsSerializer):
    """A template that is being written. `id` is the one being changed, so that its own name is free."""

    id = serializers.UUIDField(required=False, allow_null=True)
    name = serializers.CharField(max_length=63, required=False, allow_blank=True)


class ManifestSerializer(serializers.Serializer):
    """NodePool and EC2NodeClass, version 1, as YAML."""

    manifest = serializers.CharField(max_length=256 * 1024, trim_whitespace=False)


class PolicyWriteSerializer(serializers.Serializer):
    """A new policy. Without a document every card has its default."""

    name = serializers.CharField(max_length=120)
    document = serializers.JSONField(required=False)
    note = serializers.CharField(max_length=200, required=False, allow_blank=True)


class PolicyPutSerializer(serializers.Serializer):
    """A new version. `version` is the one that was edited: 409 when there is a newer one."""

    document = serializers.JSONField()
    version = serializers.IntegerField(min_value=1, required=False)
    note = serializers.CharField(max_length=200, required=False, allow_blank=True)


class PolicyRenameSerializer(serializers.Serializer):
    name = serializers.CharField(max_length=120)


class PolicyApplySerializer(serializers.Serializer):
    """Clusters that shall follow the policy."""

    clusters = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=500)
    mode = serializers.ChoiceField(choices=_choices(Mode), required=False)


class ClusterPolicySerializer(serializers.Serializer):
    """What a cluster follows. A document without `policy` changes the policy that it follows, or makes one for it."""

    policy = serializers.UUIDField(required=False)
    mode = serializers.ChoiceField(choices=_choices(Mode), required=False)
    document = serializers.JSONField(required=False)


class ImpactSerializer(serializers.Serializer):
    """The document to judge; without one, what the cluster follows now."""

    document = serializers.JSONField(required=False)
