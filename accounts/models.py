"""People, organizations, their cloud accounts and the keys that programs use."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.db.models.functions import Lower

from accounts.enums import AccountStatus, AgentKind, Method, Provider, Role, Theme
from core.models import UuidModel
from core.tenancy import OrgOwned


class Organization(UuidModel):
    """The tenant. Everything that costs money or is written belongs to exactly one."""

    name = models.CharField(max_length=120)
    timezone = models.CharField(max_length=64, default="UTC")
    currency = models.CharField(max_length=3, default="USD")
    is_sandbox = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)  # the row outlives the organization: its log names it

    def __str__(self) -> str:
        return self.name


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, email: str | None) -> User:
        return self.get(email__iexact=email)


class User(UuidModel, AbstractBaseUser, PermissionsMixin):
    """A person; signs in by e-mail."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    theme = models.CharField(max_length=5, choices=Theme.choices, default=Theme.SYSTEM, blank=True)
    timezone = models.CharField(max_length=64, blank=True)  # "": that of the organization
    wizard_closed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = UserManager()
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_once")]

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def display_name(self) -> str:
        return self.name or self.email.split("@")[0]

    @property
    def initials(self) -> str:
        words = self.display_name.replace(".", " ").split()
        return "".join(w[0] for w in words[:2]).upper() or "?"


class Membership(UuidModel, OrgOwned):
    """A person's role in an organization."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.VIEWER)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "user"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user} as {self.role}"


class Invitation(UuidModel, OrgOwned):
    """An offer of membership to whoever reads the mail of an address.

    `stamp` is part of the signed link: sending again makes a new one, and older links stop working.
    """

    email = models.EmailField()
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.VIEWER)
    stamp = models.CharField(max_length=32)
    invited_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                "organization",
                Lower("email"),
                condition=models.Q(accepted_at=None, revoked_at=None),
                name="invitation_open_once",
            ),
        ]

    def __str__(self) -> str:
        return self.email


class CloudAccount(UuidModel, OrgOwned):
    """A connected cloud account. The placeholder made at sign-up is a row with status pending and no method.

    `credentials` is sealed text (core.encryption) and never leaves the server. `number` is the cloud's own id
    (12 digits, subscription, project, engine id): one organization only.
    """

    provider = models.CharField(max_length=10, choices=Provider.choices, default=Provider.AWS)
    name = models.CharField(max_length=120)
    number = models.CharField(max_length=120, blank=True)
    region = models.CharField(max_length=40, blank=True)
    method = models.CharField(max_length=20, choices=Method.choices, default=Method.NONE, blank=True)
    status = models.CharField(max_length=10, choices=AccountStatus.choices, default=AccountStatus.PENDING)
    status_reason = models.CharField(max_length=500, blank=True)
    next_step = models.CharField(max_length=300, blank=True)
    principal = models.CharField(max_length=300, blank=True)
    external_id = models.CharField(max_length=64, blank=True)
    endpoint = models.CharField(max_length=300, blank=True)
    credentials = models.TextField(blank=True)
    settings = models.JSONField(default=dict)
    is_sandbox = models.BooleanField(default=False)
    found = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    connected_at = models.DateTimeField(null=True, blank=True)
    scanned_at = models.DateTimeField(null=True, blank=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "number"], condition=~models.Q(number=""), name="cloud_account_claimed_once"
            ),
        ]
        indexes = [models.Index(fields=["organization", "status"], name="cloud_account_status")]

    def __str__(self) -> str:
        return self.name

    @property
    def masked_number(self) -> str:
        """`1234-****-****` for AWS; the first four characters elsewhere."""
        if not self.number:
            return ""
        return f"{self.number[:4]}-****-****" if self.provider == Provider.AWS else f"{self.number[:4]}…"

    @property
    def seal_name(self) -> str:
        """What the credentials are bound to, so that a ciphertext moved to another row does not open."""
        return f"cloud_account:{self.id}"


class ApiKey(UuidModel, OrgOwned):
    """A scoped key for programs; only a hash is kept."""

    name = models.CharField(max_length=120)
    prefix = models.CharField(max_length=16, unique=True)
    digest = models.CharField(max_length=64)
    scopes = models.JSONField(default=list)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_used_ip = models.CharField(max_length=45, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"


class AgentToken(UuidModel, OrgOwned):
    """Token of one agent (machine, worker or cluster), or a short-lived enrolment token that may mint one."""

    kind = models.CharField(max_length=16, choices=AgentKind.choices)
    name = models.CharField(max_length=120)
    prefix = models.CharField(max_length=16, unique=True)
    digest = models.CharField(max_length=64)
    enrolment = models.BooleanField(default=False)
    resource_id = models.UUIDField(null=True, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


class RefreshToken(models.Model):
    """One rotation of a JWT refresh family; using a spent one revokes the family."""

    jti = models.UUIDField(primary_key=True)
    family = models.UUIDField(db_index=True)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    expires_at = models.DateTimeField()
    spent_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return str(self.jti)
