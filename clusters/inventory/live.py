"""Live objects of an API server as the records that a report would hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.wire.resources import RESOURCES

_BY_NAME = {resource.name: resource for resource in RESOURCES}
Tables = dict[str, dict[str, Any]]


def tables_of(objects: Mapping[str, Sequence[dict[str, Any]]]) -> Tables:
    """Records by collection, from objects by plural; what cannot be read is left out, as an agent leaves it out."""
    tables: Tables = {}
    for plural, found in objects.items():
        resource = _BY_NAME.get(plural)
        for obj in found if resource else ():
            assert resource is not None
            try:
                built = resource.built(obj)
            except (KeyError, TypeError):
                continue
            if built.record is not None:
                tables.setdefault(resource.collection, {})[built.key] = built.record
            if built.spec is not None:
                tables.setdefault("specs", {})[built.spec_key] = built.spec
    return tables
