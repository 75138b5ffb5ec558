"""The public address of a CloudFormation template: signed, so that it names one external ID and cannot be made up."""

from __future__ import annotations

from django.conf import settings
from django.core import signing
from django.urls import reverse

from accounts import sandbox
from accounts.providers.aws_template import DEFAULT_ROLE_NAME, cloudformation_template
from core.errors import NotFound, Unavailable

SALT = "accounts.aws-role"
LIFETIME_SECONDS = 30 * 24 * 3600


def platform_account() -> str:
    """The AWS account that roles have to trust. Raises Unavailable when the operator has named none."""
    if settings.CURFEW_PLATFORM_AWS_ACCOUNT:
        return str(settings.CURFEW_PLATFORM_AWS_ACCOUNT)
    if sandbox.is_offered():
        return sandbox.facts().platform_account
    raise Unavailable(
        "This server has no AWS account of its own yet, so a role cannot trust it. Its operator sets CURFEW_PLATFORM_AWS_ACCOUNT; "
        "access keys work meanwhile.",
        code="no_platform_account",
        retry_after=3600,
    )


def template_url(external_id: str, *, role_name: str = DEFAULT_ROLE_NAME) -> str:
    """The absolute address at which the template for this external ID can be read for thirty days."""
    token = signing.dumps({"external_id": external_id, "role_name": role_name}, salt=SALT)
    return settings.CURFEW_BASE_URL + reverse("accounts:aws-role-template", args=[token])


def template_of(token: str) -> str:
    """The YAML that a signed address stands for. Raises NotFound for a token that is not ours or too old."""
    try:
        wanted = signing.loads(token, salt=SALT, max_age=LIFETIME_SECONDS)
    except signing.BadSignature:
        raise NotFound("This address is not valid any more. Open Connect AWS again to get a new one.") from None
    return cloudformation_template(wanted["external_id"], platform_account(), role_name=wanted["role_name"])
