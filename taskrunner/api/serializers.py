"""Shapes for the schema and for reading bodies; meaning is checked in the services."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from taskrunner.enums import WorkerState
from taskrunner.selectors.tasks import GROUPS, SORTS


class TaskWriteSerializer(serializers.Serializer):
    """A submission. `command` is a list of words, or one line that is parted as a shell would."""

    name = serializers.CharField()
    image = serializers.CharField()
    command = serializers.JSONField(required=False)
    description = serializers.CharField(required=False, allow_blank=True)
    cpu = serializers.IntegerField(required=False, help_text="Millicores.")
    memory = serializers.IntegerField(required=False, help_text="MiB.")
    storage = serializers.IntegerField(required=False, help_text="MiB.")
    gpus = serializers.IntegerField(required=False)
    labels = serializers.DictField(required=False, child=serializers.CharField(allow_blank=True))
    environment = serializers.DictField(
        required=False, child=serializers.CharField(allow_blank=True, trim_whitespace=False)
    )
    secrets = serializers.DictField(
        required=False, child=serializers.CharField(allow_blank=True, trim_whitespace=False)
    )
    files = serializers.DictField(required=False, child=serializers.CharField(allow_blank=True, trim_whitespace=False))
    network = serializers.BooleanField(required=False)
    timeout_seconds = serializers.IntegerField(required=False)
    retries = serializers.IntegerField(required=False)
    retry_on = serializers.ListField(required=False, child=serializers.CharField())
    priority = serializers.IntegerField(required=False)
    shared = serializers.BooleanField(required=False)


class TaskSubmitSerializer(TaskWriteSerializer):
    needs = serializers.ListField(required=False, child=serializers.UUIDField())
    template = serializers.UUIDField(required=False, help_text="Fields that are not given come from this template.")
    name = serializers.CharField(required=False)
    image = serializers.CharField(required=False)


class BatchItemSerializer(TaskWriteSerializer):
    key = serializers.CharField(required=False)
    needs = serializers.ListField(required=False, child=serializers.CharField())


class BatchSerializer(serializers.Serializer):
    tasks = BatchItemSerializer(many=True)


class TaskQuerySerializer(serializers.Serializer):
    status = serializers.CharField(required=False, allow_blank=True)
    search = serializers.CharField(required=False, allow_blank=True)
    whose = serializers.ChoiceField(required=False, choices=["mine", "shared"])
    worker = serializers.UUIDField(required=False)
    ordering = serializers.CharField(required=False)
    page = serializers.IntegerField(required=False, min_value=1)
    page_size = serializers.IntegerField(required=False, min_value=1, max_value=200)

    def validate_status(self, value: str) -> str:
        if value and value not in GROUPS:
            raise serializers.ValidationError(f"One of {', '.join(GROUPS)}.")
        return value

    def validate_ordering(self, value: str) -> str:
        if value.removeprefix("-") not in SORTS:
            raise serializers.ValidationError(f"One of {', '.join(SORTS)}, with a minus for descending.")
        return value


class LogQuerySerializer(serializers.Serializer):
    """By line (`first`, `count`), by byte (`stream` and `offset`), or by `search`."""

    stream = serializers.ChoiceField(required=False, choices=["stdout", "stderr"])
    first = serializers.IntegerField(required=False)
    count = serializers.IntegerField(required=False, min_value=1, max_value=10_000)
    offset = serializers.IntegerField(required=False, min_value=0)
    search = serializers.CharField(required=False, trim_whitespace=False)
    regex = serializers.BooleanField(required=False)
    context = serializers.IntegerField(required=False, min_value=0, max_value=10)  # type: ignore[assignment]
    attempt = serializers.IntegerField(required=False, min_value=1)


@extend_schema_serializer(component_name="TaskScheduleWrite")
class ScheduleWriteSerializer(serializers.Serializer):
    """`fields` is what is submitted each time."""

    name = serializers.CharField()
    cron = serializers.CharField()
    zone = serializers.CharField()
    enabled = serializers.BooleanField(required=False)

    def get_fields(self) -> dict[str, serializers.Field]:
        return {**super().get_fields(), "fields": serializers.DictField()}  # the name is taken by the class itself


class WorkerWriteSerializer(serializers.Serializer):
    name = serializers.CharField(required=False)
    wanted = serializers.ChoiceField(required=False, choices=WorkerState.choices)
    labels = serializers.DictField(required=False, child=serializers.CharField(allow_blank=True))
    auto_start = serializers.BooleanField(required=False)
    auto_stop_minutes = serializers.IntegerField(required=False, allow_null=True)
    sleepable_kind = serializers.CharField(required=False, allow_blank=True)
    sleepable_id = serializers.UUIDField(required=False, allow_null=True)
    host_mounts = serializers.ListField(required=False, child=serializers.CharField())


class RegisterSerializer(serializers.Serializer):
    token = serializers.CharField(help_text="An enrolment token of kind worker.")
    name = serializers.CharField(required=False, allow_blank=True)
    hostname = serializers.CharField(required=False, allow_blank=True)
    cpu = serializers.IntegerField(help_text="Millicores.")
    memory = serializers.IntegerField(help_text="MiB.")
    storage = serializers.IntegerField(required=False)
    gpus = serializers.IntegerField(required=False)
    gpu_model = serializers.CharField(required=False, allow_blank=True)
    engine = serializers.CharField(required=False, allow_blank=True)
    agent_version = serializers.CharField(required=False, allow_blank=True)
    labels = serializers.DictField(required=False, child=serializers.CharField(allow_blank=True))


class EnrolmentSerializer(serializers.Serializer):
    name = serializers.CharField()
    hours = serializers.IntegerField(required=False)


class FenceSerializer(serializers.Serializer):
    fence = serializers.IntegerField(min_value=1)
    metrics = serializers.DictField(required=False, child=serializers.FloatField(allow_null=True))


class FinishSerializer(serializers.Serializer):
    fence = serializers.IntegerField(min_value=1)
    exit_class = serializers.CharField()
    exit_code = serializers.IntegerField(required=False, allow_null=True, min_value=-(2**31), max_value=2**31 - 1)
    reason = serializers.CharField(required=False, allow_blank=True)


class BeatSerializer(serializers.Serializer):
    usage = serializers.DictField(required=False, child=serializers.FloatField(allow_null=True))
    capacity = serializers.DictField(required=False)


class QuotaSerializer(serializers.Serializer):
    most_queued = serializers.IntegerField(required=False, allow_null=True, min_value=0)
    most_running = serializers.IntegerField(required=False, allow_null=True, min_value=0)
    most_cpu = serializers.IntegerField(required=False, allow_null=True, min_value=0)
    most_memory = serializers.IntegerField(required=False, allow_null=True, min_value=0)
    most_gpus = serializers.IntegerField(required=False, allow_null=True, min_value=0)


@extend_schema_serializer(component_name="TaskEstimate")
class EstimateSerializer(serializers.Serializer):
    image = serializers.CharField()
    command = serializers.JSONField(required=False)
    cpu = serializers.IntegerField(required=False, min_value=0)
    memory = serializers.IntegerField(required=False, min_value=0)
    gpus = serializers.IntegerField(required=False, min_value=0)


class HookWriteSerializer(serializers.Serializer):
    name = serializers.CharField(max_length=120)
    template = serializers.UUIDField()
    per_minute = serializers.IntegerField(required=False, min_value=1, max_value=600, help_text="Calls a minute.")


class HookCallSerializer(serializers.Serializer):
    """What a signed call may say."""

    name = serializers.CharField(required=False)
    environment = serializers.DictField(required=False, child=serializers.CharField(allow_blank=True))


class KeepingSerializer(serializers.Serializer):
    """Days after a task's end; null is for ever."""

    sample_days = serializers.IntegerField(allow_null=True)
    log_days = serializers.IntegerField(allow_null=True)


class PersonWriteSerializer(serializers.Serializer):
    email = serializers.CharField()
    role = serializers.CharField()


class PersonChangeSerializer(serializers.Serializer):
    role = serializers.CharField(required=False)
    quota = QuotaSerializer(required=False)


class AdminLogQuerySerializer(serializers.Serializer):
    search = serializers.CharField(required=False, allow_blank=True)
