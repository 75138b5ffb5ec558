"""What the API server accepts of NodePool and EC2NodeClass, version 1: the fields that a template writes, as documented.

Unknown fields are refused (the API server would drop them in silence). Rules that a JSON schema cannot say are functions.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

NAME = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$"
VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
DURATION = r"^(([0-9]+(s|m|h))+|Never)$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T|m)?$"
VOLUME = r"^[1-9][0-9]*(Gi|G|Ti|T)$"


def _object(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _list(items: dict[str, Any], least: int = 0, most: int = 100) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


TEXT = {"type": "string", "minLength": 1}
METADATA = _object(
    {
        "name": {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 253},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    ("name",),
)
REQUIREMENT = _object(
    {
        "key": {"type": "string", "pattern": NAME, "maxLength": 316},
        "operator": {"enum": ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Gte", "Lte"]},
        "values": _list({"type": "string", "pattern": VALUE, "maxLength": 63}, most=1000),
        "minValues": {"type": "integer", "minimum": 1, "maximum": 50},
    },
    ("key", "operator"),
)
TAINT = _object(
    {
        "key": {"type": "string", "pattern": NAME},
        "value": {"type": "string", "pattern": NAME},
        "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
    },
    ("key", "effect"),
)
POOL = _object(
    {
        "apiVersion": {"const": "karpenter.sh/v1"},
        "kind": {"const": "NodePool"},
        "metadata": METADATA,
        "spec": _object(
            {
                "weight": {"type": "integer", "minimum": 1, "maximum": 100},
                "limits": {"type": "object", "additionalProperties": {"type": "string", "pattern": QUANTITY}},
                "disruption": _object(
                    {
                        "consolidationPolicy": {"enum": ["WhenEmpty", "WhenEmptyOrUnderutilized", "Balanced"]},
                        "consolidateAfter": {"type": "string", "pattern": DURATION},
                    },
                    ("consolidateAfter",),
                ),
                "template": _object(
                    {
                        "metadata": _object(
                            {"labels": {"type": "object", "additionalProperties": {"type": "string", "pattern": VALUE}}}
                        ),
                        "spec": _object(
                            {
                                "nodeClassRef": _object(
                                    {"group": {"type": "string", "pattern": "^[^/]+$"}, "kind": TEXT, "name": TEXT},
                                    ("group", "kind", "name"),
                                ),
                                "requirements": _list(REQUIREMENT),
                                "taints": _list(TAINT),
                                "expireAfter": {"type": "string", "pattern": DURATION},
                            },
                            ("nodeClassRef", "requirements"),
                        ),
                    },
                    ("spec",),
                ),
            },
            ("template",),
        ),
    },
    ("apiVersion", "kind", "metadata", "spec"),
)
TAGS = {"type": "object", "maxProperties": 20, "additionalProperties": TEXT}
CLASS = _object(
    {
        "apiVersion": {"const": "karpenter.k8s.aws/v1"},
        "kind": {"const": "EC2NodeClass"},
        "metadata": METADATA,
        "spec": _object(
            {
                "amiSelectorTerms": _list(
                    _object(
                        {"alias": {"type": "string", "maxLength": 30, "pattern": r"^(al2|al2023|bottlerocket)@.+$"}},
                        ("alias",),
                    ),
                    1,
                    1,
                ),
                "role": TEXT,
                "instanceStorePolicy": {"const": "RAID0"},
                "securityGroupSelectorTerms": _list(
                    _object({"id": {"type": "string", "pattern": "^sg-[0-9a-z]+$"}, "tags": TAGS}), 1, 30
                ),
                "subnetSelectorTerms": _list(
                    _object({"id": {"type": "string", "pattern": "^subnet-[0-9a-z]+$"}, "tags": TAGS}), 1, 30
                ),
                "blockDeviceMappings": _list(
                    _object(
                        {
                            "deviceName": TEXT,
                            "rootVolume": {"type": "boolean"},
                            "ebs": _object(
                                {
                                    "volumeSize": {"type": "string", "pattern": VOLUME},
                                    "volumeType": {"enum": ["standard", "io1", "io2", "gp2", "sc1", "st1", "gp3"]},
                                    "encrypted": {"type": "boolean"},
                                    "deleteOnTermination": {"type": "boolean"},
                                    "iops": {"type": "integer", "minimum": 100, "maximum": 64000},
                                },
                                ("volumeSize",),
                            ),
                        }
                    ),
                    most=50,
                ),
            },
            ("amiSelectorTerms", "role", "securityGroupSelectorTerms", "subnetSelectorTerms"),
        ),
    },
    ("apiVersion", "kind", "metadata", "spec"),
)
RESTRICTED = ("karpenter.sh/nodepool", "kubernetes.io/hostname")


def problems(pool: dict[str, Any], node_class: dict[str, Any]) -> list[str]:
    """Everything that the API server would refuse, or drop."""
    found = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for schema, one in ((POOL, pool), (CLASS, node_class))
        for error in Draft202012Validator(schema).iter_errors(one)
    ]
    return found + (_pool_rules(pool) if not found else []) + (_class_rules(node_class) if not found else [])


def _pool_rules(pool: dict[str, Any]) -> list[str]:
    spec = pool["spec"]["template"]["spec"]
    found = []
    for one in spec["requirements"]:
        values = one.get("values", [])
        if one["operator"] in ("In", "NotIn") and not values:
            found.append(f"{one['key']}: {one['operator']} without values")
        if one["key"] in RESTRICTED:
            found.append(f"{one['key']} is restricted")
    if len({(one["key"], one["operator"]) for one in spec["requirements"]}) < len(spec["requirements"]):
        found.append("a requirement is there twice")
    return found


def _class_rules(node_class: dict[str, Any]) -> list[str]:
    spec = node_class["spec"]
    found = [
        f"{field}: exactly one of id and tags, not {sorted(term)}"
        for field in ("securityGroupSelectorTerms", "subnetSelectorTerms")
        for term in spec[field]
        if len(term) != 1
    ]
    roots = [one for one in spec.get("blockDeviceMappings", []) if one.get("rootVolume")]
    if len(roots) > 1:
        found.append("more than one root volume")
    for one in spec.get("blockDeviceMappings", []):
        ebs = one.get("ebs", {})
        if "iops" in ebs and ebs["volumeType"] not in ("io1", "io2", "gp3"):
            found.append("iops of a volume without them")
        if ebs.get("volumeType") in ("io1", "io2") and "iops" not in ebs:
            found.append("io1 and io2 need iops")
    return found
