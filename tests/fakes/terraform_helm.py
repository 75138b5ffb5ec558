"""A provider `hashicorp/helm` for the real Terraform: it knows the arguments of `helm_release` and does nothing.

Terraform asks a provider over gRPC (plugin protocol 6) for its schema and judges a configuration by it. With
`TF_REATTACH_PROVIDERS` it takes one that runs already, so nothing is fetched. The arguments are those that the
provider's own documentation lists for versions 2 and 3 alike; what the two spell differently (`set`) is left out, so
that a snippet with it is refused. Messages are put together by hand: two kinds of fields are enough.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

SERVICE = "tfplugin6.Provider"
STRING, NUMBER, BOOL, STRINGS = '"string"', '"number"', '"bool"', '["list","string"]'
REQUIRED = {"name": STRING, "chart": STRING}
OPTIONAL = {
    **dict.fromkeys(("repository", "version", "namespace", "description", "keyring"), STRING),
    **dict.fromkeys(("atomic", "cleanup_on_fail", "create_namespace", "wait", "wait_for_jobs", "verify", "lint"), BOOL),
    **dict.fromkeys(("timeout", "max_history"), NUMBER),
    "values": STRINGS,
}


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, value: bytes | str | bool) -> bytes:
    """A field of a message: true, or anything with a length."""
    if isinstance(value, bool):
        return _varint(number << 3) + _varint(int(value))
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _attribute(name: str, kind: str, *, required: bool) -> bytes:
    return _field(1, name) + _field(2, kind) + _field(4 if required else 5, True)


def _schema() -> bytes:
    """GetProviderSchema.Response: an empty provider and one resource."""
    attributes = [_attribute(name, kind, required=True) for name, kind in REQUIRED.items()]
    attributes += [_attribute(name, kind, required=False) for name, kind in OPTIONAL.items()]
    block = b"".join(_field(2, one) for one in attributes)
    release = _field(1, "helm_release") + _field(2, _field(2, block))
    return _field(1, _field(2, b"")) + _field(2, release)


class HelmProvider:
    """Serves while the block lasts; `environment()` makes Terraform take it."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "helm.sock"
        self.asked: list[str] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        answers = {
            "GetProviderSchema": _schema(),
            "ValidateProviderConfig": b"",
            "ValidateResourceConfig": b"",
            "StopProvider": b"",
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._answer(name, said)) for name, said in answers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._server.add_insecure_port(f"unix:{self._socket}")

    def _answer(self, name: str, said: bytes) -> Any:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.asked.append(name)
            return said

        return answer

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None).wait(5)

    def environment(self) -> dict[str, str]:
        where = {"Network": "unix", "String": str(self._socket)}
        told = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True, "Addr": where}
        return {"TF_REATTACH_PROVIDERS": json.dumps({"hashicorp/helm": told})}
