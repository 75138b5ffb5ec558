"""Forms of the fleet's pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms

from accounts.models import CloudAccount

STRATEGIES = (
    ("race", "Race: five at once, the first to answer wins"),
    ("cheapest", "Cheapest: one after the other by price"),
    ("reliable", "Reliable: the most trusted hosts first"),
)


class DeployForm(forms.Form):
    """What a new machine wants."""

    name = forms.CharField(label="Name", max_length=60, help_text="Small letters, digits and hyphens.")
    account_id = forms.ChoiceField(label="Where")
    gpu_name = forms.CharField(label="GPU", max_length=80, required=False, help_text="Such as RTX 4090; empty: any.")
    min_gpus = forms.IntegerField(label="GPUs at least", min_value=0, max_value=64, required=False)
    min_vram_gb = forms.IntegerField(
        label="Memory of each GPU at least, GB", min_value=0, max_value=1024, required=False
    )
    max_hourly = forms.DecimalField(label="At most, $ an hour", min_value=0, required=False, decimal_places=4)
    disk_gb = forms.IntegerField(label="Disk, GB", min_value=8, max_value=4096, initial=16)
    location = forms.CharField(label="Place", max_length=80, required=False, help_text="A part of it, such as NL.")
    strategy = forms.ChoiceField(label="How to rent", choices=STRATEGIES, initial="race")
    interruptible = forms.BooleanField(label="Interruptible: cheaper, may be taken at any time", required=False)
    paths = forms.CharField(label="Folders that are saved", initial="/workspace", help_text="Split by blanks.")
    auto_sleep = forms.BooleanField(label="Put it to sleep when it is idle", required=False, initial=True)
    idle_minutes = forms.FloatField(
        label="Idle minutes", min_value=1, max_value=1440, required=False, help_text="Empty: as the fleet."
    )

    def __init__(self, data: Any, *, accounts: Sequence[CloudAccount], **options: Any) -> None:
        super().__init__(data, **options)
        where = self.fields["account_id"]
        assert isinstance(where, forms.ChoiceField)
        where.choices = [(str(account.id), account.name) for account in accounts]


class WizardForm(forms.Form):
    """What somebody wants to do with a model."""

    goal = forms.ChoiceField(
        label="What for",
        choices=(("inference", "Run it"), ("lora", "Fine-tune adapters (LoRA)"), ("training", "Train all of it")),
    )
    model = forms.CharField(
        label="Model", max_length=120, required=False, help_text="A name that tells its size: llama-3-70b."
    )
    parameters_b = forms.FloatField(
        label="Or its size, billions of parameters", min_value=0.01, max_value=5000, required=False
    )
    precision = forms.ChoiceField(
        label="Precision", choices=[(n, n) for n in ("fp16", "bf16", "fp32", "fp8", "int8", "int4")]
    )
    context = forms.IntegerField(label="Context, tokens", min_value=1, max_value=2_000_000)
    batch = forms.IntegerField(label="Batch", min_value=1, max_value=4096)
    vram_gb = forms.FloatField(
        label="Or the memory it needs, GB",
        min_value=0.5,
        max_value=10_000,
        required=False,
        help_text="If you know it: then nothing is reckoned.",
    )
    budget_hour = forms.DecimalField(label="At most, $ an hour", min_value=0, decimal_places=4, required=False)


class SettingsForm(forms.Form):
    """How the fleet behaves; secrets are written, never shown."""

    auto_sleep = forms.BooleanField(label="Put idle machines to sleep", required=False)
    idle_minutes = forms.FloatField(label="Idle for, minutes", min_value=1, max_value=1440)
    warn_seconds = forms.IntegerField(label="Warn before, seconds", min_value=0, max_value=3600)
    destroy_after_minutes = forms.FloatField(
        label="Stop first, destroy after, minutes",
        min_value=0,
        max_value=10_080,
        help_text="An idle machine is saved and stopped with its disk kept, which most providers charge for, and destroyed so much later. 0: destroyed at once.",
    )
    storage = forms.ChoiceField(
        label="Snapshots are kept in",
        choices=(("local", "A folder on this server"), ("s3", "S3 or R2"), ("rclone", "A remote of rclone")),
        help_text="A folder serves machines of local Docker; rented ones need S3 or a remote of rclone.",
    )
    bucket = forms.CharField(label="Bucket", required=False, max_length=200)
    endpoint = forms.CharField(label="Endpoint", required=False, max_length=300, help_text="https://…; empty: AWS.")
    region = forms.CharField(label="Region", required=False, max_length=40)
    role_arn = forms.CharField(
        label="Role for machines",
        required=False,
        max_length=200,
        help_text="Machines get short-lived keys of this role for their own folder; the account's key stays here.",
    )
    access_key = forms.CharField(label="Access key", required=False, max_length=200)
    secret_key = forms.CharField(
        label="Secret key", required=False, max_length=200, widget=forms.PasswordInput(render_value=False)
    )
    rclone_config = forms.CharField(
        label="Configuration of the remote",
        required=False,
        max_length=20_000,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 5, "class": "mono", "spellcheck": "false", "autocomplete": "off"}),
        help_text="What rclone config show NAME prints. Tried out when you save, stored sealed, never shown again; machines never get it.",
    )
    rclone_folder = forms.CharField(
        label="Folder in the remote", required=False, max_length=300, help_text="Such as backups/curfew."
    )
    login_keys = forms.CharField(
        label="Public keys that may log in",
        required=False,
        max_length=100_000,
        widget=forms.Textarea(attrs={"rows": 4, "class": "mono", "spellcheck": "false"}),
        help_text="One on each line, as in ~/.ssh/id_ed25519.pub. A change reaches running machines with their next heartbeat.",
    )
    keep_last = forms.IntegerField(label="Snapshots to keep of each machine", min_value=1, max_value=100)
    dead_man_hours = forms.FloatField(
        label="Dead-man switch, hours",
        min_value=0,
        max_value=720,
        help_text="A machine that cannot reach Curfew for so long, is idle and has a verified snapshot stops itself. 0: off.",
    )
    standby_interval = forms.FloatField(label="Copy every, seconds", min_value=5, max_value=3600)
    standby_grace = forms.IntegerField(
        label="A lost machine may come back for, seconds",
        min_value=0,
        max_value=86_400,
        help_text="Until then it is not destroyed, so that what was not copied yet can be kept.",
    )
    standby_failover = forms.BooleanField(label="Fail over when a machine is lost", required=False)
    standby_return = forms.BooleanField(label="Rent a GPU again and fail back", required=False)
    local_hourly = forms.DecimalField(
        label="What an hour of local Docker costs you, $",
        min_value=0,
        max_value=1000,
        required=False,
        help_text="Power and wear of this machine; empty: nothing.",
    )
