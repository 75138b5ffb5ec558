"""What is read from requests."""

from __future__ import annotations

from rest_framework import serializers


class WantedSerializer(serializers.Serializer):
    gpu_name = serializers.CharField(required=False, allow_blank=True, max_length=80)
    min_gpus = serializers.IntegerField(required=False, min_value=0, max_value=64)
    min_vram_gb = serializers.IntegerField(required=False, min_value=0, max_value=1024)
    max_hourly = serializers.DecimalField(required=False, allow_null=True, max_digits=10, decimal_places=4, min_value=0)
    min_reliability = serializers.FloatField(required=False, allow_null=True, min_value=0, max_value=1)
    disk_gb = serializers.IntegerField(required=False, min_value=8, max_value=4096)
    location = serializers.CharField(required=False, allow_blank=True, max_length=80)
    interruptible = serializers.BooleanField(required=False)
    strategy = serializers.ChoiceField(required=False, choices=["race", "cheapest", "reliable"])
    image = serializers.CharField(required=False, allow_blank=True, max_length=300)
    paths = serializers.ListField(required=False, child=serializers.CharField(max_length=300), max_length=20)


class MachineWriteSerializer(WantedSerializer):
    name = serializers.CharField(max_length=60)
    account_id = serializers.UUIDField()
    auto_sleep = serializers.BooleanField(required=False, default=True)
    idle_minutes = serializers.FloatField(required=False, allow_null=True, default=None)


class OfferQuerySerializer(WantedSerializer):
    account_id = serializers.UUIDField(required=False)


class ReasonSerializer(serializers.Serializer):
    reason = serializers.CharField(required=False, allow_blank=True, max_length=300, default="")


class DestroySerializer(serializers.Serializer):
    name = serializers.CharField(max_length=60, help_text="The machine's name, repeated: this cannot be undone.")


class KeepAwakeSerializer(serializers.Serializer):
    minutes = serializers.FloatField(required=False, default=60, min_value=0, max_value=10080)


class SnapshotWriteSerializer(serializers.Serializer):
    machine_id = serializers.UUIDField()


class RestoreSerializer(serializers.Serializer):
    machine_id = serializers.UUIDField(required=False)


class SettingsSerializer(serializers.Serializer):
    auto_sleep = serializers.BooleanField(required=False)
    idle_minutes = serializers.FloatField(required=False)
    warn_seconds = serializers.IntegerField(required=False)
    destroy_after_minutes = serializers.FloatField(required=False)
    strategy = serializers.ChoiceField(required=False, choices=["race", "cheapest", "reliable"])
    storage = serializers.ChoiceField(required=False, choices=["local", "s3", "rclone"])
    bucket = serializers.CharField(required=False, allow_blank=True, max_length=200)
    endpoint = serializers.CharField(required=False, allow_blank=True, max_length=300)
    region = serializers.CharField(required=False, allow_blank=True, max_length=40)
    role_arn = serializers.CharField(required=False, allow_blank=True, max_length=200)
    access_key = serializers.CharField(required=False, allow_blank=True, max_length=200, write_only=True)
    secret_key = serializers.CharField(required=False, allow_blank=True, max_length=200, write_only=True)
    rclone_config = serializers.CharField(required=False, allow_blank=True, max_length=20_000, write_only=True)
    rclone_folder = serializers.CharField(required=False, allow_blank=True, max_length=300)
    keep_last = serializers.IntegerField(required=False)
    dead_man_hours = serializers.FloatField(required=False)
    standby_interval = serializers.FloatField(required=False)
    standby_failover = serializers.BooleanField(required=False)
    standby_return = serializers.BooleanField(required=False)
    standby_grace = serializers.IntegerField(required=False)
    login_keys = serializers.CharField(required=False, allow_blank=True, max_length=100_000)
    local_hourly = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=20)
