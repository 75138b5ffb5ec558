"""Whether what was typed can be right, before anybody asks a cloud."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accounts.providers.aws import partition_of
from accounts.providers.registry import PROVIDERS, ConnectMethod, CredentialField, ProviderInfo
from core.errors import InvalidInput
from core.providers import InvalidRequest

LONGEST_TEXT = 400
LONGEST_DOCUMENT = 32_000
_REGION = re.compile(r"[a-z][a-z0-9-]{1,39}")
# where the words of a provider's refusal belong on a form
FIELD_OF_CODE = {
    "unknown_region": "region",
    "bad_account_number": "aws_account_id",
    "bad_role_arn": "role_arn",
    "wrong_partition": "region",
    "bad_address": "host",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A connection as it was asked for, checked and trimmed."""

    info: ProviderInfo
    method: ConnectMethod
    region: str
    values: dict[str, str]


def info_of(provider: str) -> ProviderInfo:
    """The provider's description; raises InvalidInput for an unknown one."""
    info = PROVIDERS.get(provider)
    if info is None:
        raise InvalidInput(errors={"provider": [f"Choose one of {', '.join(PROVIDERS)}."]})
    return info


def method_of(info: ProviderInfo, method: str) -> ConnectMethod:
    """The way to connect; raises InvalidInput for one that this provider does not have."""
    for known in info.methods:
        if known.name == method:
            return known
    raise InvalidInput(
        errors={"method": [f"{info.label} is connected by {' or '.join(m.name for m in info.methods)}."]}
    )


def check(provider: str, method: str, region: str, values: Mapping[str, Any]) -> Asked:
    """Trim and check every field of a connect form. Raises InvalidInput with messages per field."""
    info = info_of(provider)
    way = method_of(info, method)
    errors: dict[str, list[str]] = {}
    where = region.strip() or info.default_region
    problem = _region_problem(info, where)
    if problem:
        errors["region"] = [problem]
    clean: dict[str, str] = {}
    for field in way.fields:
        text = tidy(field, values.get(field.name))
        problem = _field_problem(field, text)
        if problem:
            errors[field.name] = [problem]
        elif text:
            clean[field.name] = text
    if errors:
        raise InvalidInput(errors=errors)
    return Asked(info, way, where if info.regions else "", clean)


def tidy(field: CredentialField, value: Any) -> str:
    """A value as text: JSON documents may come as objects, account numbers with blanks or dashes."""
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    text = "" if value is None else str(value).strip()
    return re.sub(r"[\s-]", "", text) if field.name == "aws_account_id" else text


def _region_problem(info: ProviderInfo, region: str) -> str:
    if not info.regions or region in info.regions:
        return ""
    if info.name != "aws":
        return "" if _REGION.fullmatch(region) else f"{region!r} is not a region of {info.label}."
    try:
        partition_of(region)
    except InvalidRequest as unknown:
        return f"{unknown.message} {unknown.next_step}"
    return ""


def _field_problem(field: CredentialField, text: str) -> str:
    if not text:
        return f"{field.label} is needed." if field.required else ""
    if len(text) > (LONGEST_DOCUMENT if field.multiline else LONGEST_TEXT):
        return f"{field.label} is too long."
    if field.kind == "choice" and text not in field.choices:
        return f"Choose one of {', '.join(field.choices)}."
    if field.name == "aws_account_id" and not re.fullmatch(r"[0-9]{12}", text):
        return "An AWS account number has exactly 12 digits."
    if field.pattern and not re.fullmatch(field.pattern, text):
        return f"This does not look like {_article(field.label)}. {field.help}".strip()
    if field.kind == "json":
        return _json_problem(text)
    return ""


def _article(label: str) -> str:
    return f"{'an' if label[0] in 'AEIO' else 'a'} {label}"


def _json_problem(text: str) -> str:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as broken:
        return f"This is not JSON: {broken.msg} in line {broken.lineno}. Paste the whole file."
    return "" if isinstance(parsed, dict) else "Paste the whole key file; it starts with a brace."
