"""What IAM allows to the connected identity of an AWS account, asked beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accounts.providers.aws import AwsConnection
from accounts.providers.aws_errors import aws_errors, need

SIMULATE = "iam:SimulatePrincipalPolicy"


def identity(connection: AwsConnection) -> str:
    """The ARN of the identity whose policies count. Raises ProviderError."""
    with aws_errors(SIMULATE, connection.secrets()):
        return principal_of(str(need(connection.client("sts").get_caller_identity(), "Arn")))


def allowed(
    connection: AwsConnection,
    arn: str,
    actions: Sequence[str],
    *,
    resource: str = "",
    context: Mapping[str, str] | None = None,
) -> set[str]:
    """Which of the actions IAM allows to an identity, on a resource (its ARN; "": any) under condition keys with those
    values. Raises ProviderError."""
    more: dict[str, Any] = {"ResourceArns": [resource]} if resource else {}
    if context:
        more["ContextEntries"] = [
            {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
            for key, value in context.items()
        ]
    with aws_errors(SIMULATE, connection.secrets()):
        pages = (
            connection.client("iam")
            .get_paginator("simulate_principal_policy")
            .paginate(PolicySourceArn=arn, ActionNames=list(actions), **more)
        )
        results = [result for page in pages for result in need(page, "EvaluationResults")]
        return {str(need(r, "EvalActionName")) for r in results if need(r, "EvalDecision") == "allowed"}


def principal_of(arn: str) -> str:
    """The identity that policies hang on: of a session (`arn:aws:sts::1:assumed-role/Name/session`) its role."""
    head, _, rest = arn.partition(":assumed-role/")
    if not rest:
        return arn
    return f"{head.replace(':sts:', ':iam:')}:role/{rest.rpartition('/')[0]}"
