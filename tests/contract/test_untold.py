"""Whether an account lets Curfew read who changed a node: asked of IAM beforehand, and granted by one parameter of the stack."""

from __future__ import annotations

import pytest

from accounts.providers.aws_template import TRAIL_ACTIONS
from cloudnodes.providers.registry import provider_for
from core.providers import PermissionDenied
from tests.contract.connections import aws_keys, aws_role
from tests.fakes.aws import SandboxAws

pytestmark = pytest.mark.integration
ROLE = {"external_id": "curfew-7d1f0c2b9a", "account_id": "111111111111"}


def test_the_stack_grants_it_only_where_it_is_told_to(aws: SandboxAws) -> None:
    aws.call("POST", "/_sandbox/role", ROLE)
    assert provider_for(aws_role(aws)).lacks_to_tell() == list(TRAIL_ACTIONS)  # type: ignore[attr-defined]
    aws.call("POST", "/_sandbox/role", {**ROLE, "tell_who": True})
    assert provider_for(aws_role(aws)).lacks_to_tell() == []  # type: ignore[attr-defined]


def test_not_being_allowed_to_ask_is_told_apart(aws: SandboxAws) -> None:
    assert provider_for(aws_keys(aws)).lacks_to_tell() == list(TRAIL_ACTIONS)  # type: ignore[attr-defined]
    aws.fail("SimulatePrincipalPolicy", code="AccessDenied", message="no", status=403)
    with pytest.raises(PermissionDenied):
        provider_for(aws_keys(aws)).lacks_to_tell()  # type: ignore[attr-defined]
