"""Verify an exported Curfew audit log. Needs nothing but Python 3.9; talks to nobody.

    python audit_verify.py audit.jsonl                        the sidecar is audit.jsonl.sidecar.json
    python audit_verify.py audit.jsonl --sidecar FILE --key 3b6a…  --anchors FILE

What is checked, in one pass at constant memory:
  1. the SHA-256 and the size of the file are those of the sidecar;
  2. each line's content has its hash, each line follows from the one before it, none is missing (JSON Lines only);
  3. the first and last hash are those of the sidecar, and the checkpoint and every anchor inside the file agree;
  4. the sidecar, the checkpoint and the anchors are signed (Ed25519) by the public key.

Without --key the key in the sidecar is used: that proves that the file is whole, not who made it. Note the key down
when the installation is set up (`manage.py verify_audit_log --keys`) and give it here.

Exit code 0: everything holds. 1: something does not; the first finding is printed. 2: the files cannot be read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any, Tuple  # noqa: UP035

LINE = re.compile(
    rb'\{"line":([1-9][0-9]{0,18}),"prev_hash":"([0-9a-f]{64})","hash":"([0-9a-f]{64})","entry":(\{.*\})\}\n'
)

# Ed25519 (RFC 8032), verification only, in plain arithmetic on the twisted Edwards curve -x² + y² = 1 + d·x²·y².
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
Point = Tuple[int, int, int, int]  # noqa: UP006  Python 3.8 reads this too
ROOT = pow(2, (P - 1) // 4, P)


class Broken(Exception):
    """A finding; the text says what and where."""


def _x_of(y: int, odd: int) -> int | None:
    """The x of a point with this y and parity; None when there is none."""
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and odd):
        return None
    return x if x % 2 == odd else P - x


def _point(data: bytes) -> Point | None:
    """Extended coordinates of an encoded point, or None."""
    number = int.from_bytes(data, "little")
    y = number % 2**255
    x = _x_of(y, number >> 255)
    return None if x is None else (x, y, 1, x * y % P)


def _add(p: Point, q: Point) -> Point:
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _times(number: int, point: Point) -> Point:
    total: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = _add(total, point)
        point = _add(point, point)
        number >>= 1
    return total


_BASE_Y = 4 * pow(5, P - 2, P) % P
_BASE_X = _x_of(_BASE_Y, 0) or 0
BASE: Point = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % P)


def is_signed(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the Ed25519 signature (64 bytes) of the message was made with the key (32 bytes)."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    key, nonce = _point(public_key), _point(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if key is None or nonce is None or scalar >= ORDER:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % ORDER
    left, right = _times(scalar, BASE), _add(nonce, _times(challenge, key))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


def link(organization: bytes, line: bytes, previous: bytes, content: bytes) -> bytes:
    """Hash of a line whose content has the SHA-256 `content` and that follows `previous`."""
    return (
        hashlib.sha256(b"curfew-audit-1\n%s\n%s\n%s\n%s" % (organization, line, previous, content)).hexdigest().encode()
    )


def statement(kind: str, organization: str, line: int, hash_: str, at: str) -> bytes:
    return f"curfew-{kind}-1\n{organization}\n{line}\n{hash_}\n{at}".encode()


def sidecar_message(sidecar: dict[str, Any]) -> bytes:
    """The signed bytes of a sidecar: all of it but the signature, sorted, without spaces."""
    unsigned = {name: value for name, value in sidecar.items() if name != "signature"}
    return json.dumps(unsigned, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def check_chain(
    path: str, organization: str, first_line: int, prev_hash: str, wanted: dict[int, str]
) -> tuple[int, str, str, int]:
    """Walk a JSON Lines file; `wanted` maps lines to hashes that witnesses remember. Returns count, last hash, SHA-256 and size."""
    owner, whole = organization.encode(), hashlib.sha256()
    sha256, size, count, expected, previous = hashlib.sha256, 0, 0, first_line, prev_hash.encode()
    left, match = dict(wanted), LINE.fullmatch
    mark = b'"organization":"%s"' % owner
    with Path(path).open("rb", buffering=1 << 20) as file:
        for raw in file:
            whole.update(raw)
            size += len(raw)
            found = match(raw)
            if found is None:
                raise Broken(f"line {expected}: it does not have the form of an exported line")
            number, before, own, content = found.groups()
            if int(number) != expected:
                raise Broken(f"line {expected} is missing: line {number.decode()} stands in its place")
            if before != previous:
                raise Broken(f"line {expected} does not follow from the line before it")
            if mark not in content or link(owner, number, before, sha256(content).hexdigest().encode()) != own:
                raise Broken(f"line {expected}: its content does not have its hash")
            if expected in left and left.pop(expected).encode() != own:
                raise Broken(f"line {expected}: a signed witness remembers another hash")
            previous, expected, count = own, expected + 1, count + 1
    return count, previous.decode(), whole.hexdigest(), size


def check_file(path: str) -> tuple[str, int]:
    """SHA-256 and size of any file."""
    whole, size = hashlib.sha256(), 0
    with Path(path).open("rb") as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return whole.hexdigest(), size
            whole.update(block)
            size += len(block)


def read_anchors(path: str, organization: str, key: bytes, key_id: str) -> dict[int, str]:
    """`{line: hash}` of a file of signed checkpoints; every one of them must be signed."""
    found: dict[int, str] = {}
    for number, text in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        anchor = json.loads(text)
        if anchor["organization"] != organization or anchor["key_id"] != key_id:
            continue
        message = statement("checkpoint", organization, anchor["line"], anchor["hash"], anchor["at"])
        if not is_signed(key, message, bytes.fromhex(anchor["signature"])):
            raise Broken(f"anchor {number} is not signed by the key")
        found[anchor["line"]] = anchor["hash"]
    return found


def verify(path: str, sidecar: dict[str, Any], key_hex: str = "", anchors_path: str = "") -> str:
    """Check everything; returns words about what holds. Raises Broken with the first finding."""
    key = bytes.fromhex(key_hex or sidecar["public_key"])
    if not is_signed(key, sidecar_message(sidecar), bytes.fromhex(sidecar["signature"])):
        raise Broken("the sidecar is not signed by the key")
    organization, checkpoint = sidecar["organization"], sidecar["checkpoint"]
    message = statement("checkpoint", organization, checkpoint["line"], checkpoint["hash"], checkpoint["at"])
    if not is_signed(key, message, bytes.fromhex(checkpoint["signature"])):
        raise Broken("the checkpoint is not signed by the key")
    witnesses = read_anchors(anchors_path, organization, key, sidecar["key_id"]) if anchors_path else {}
    anchored = max(witnesses, default=0)
    if anchored > checkpoint["line"]:
        raise Broken(
            f"the checkpoint is at line {checkpoint['line']} but an anchor says {anchored}: lines were cut off"
        )
    witnesses[checkpoint["line"]] = witnesses.get(checkpoint["line"], checkpoint["hash"])
    if witnesses[checkpoint["line"]] != checkpoint["hash"]:
        raise Broken(f"line {checkpoint['line']}: anchor and checkpoint remember different hashes")
    if sidecar["format"] != "jsonl":
        digest, size = check_file(path)
        count = sidecar["lines"]
    else:
        count, last, digest, size = check_chain(
            path, organization, sidecar["first_line"], sidecar["prev_hash"], witnesses
        )
        if count != sidecar["lines"] or (count and last != sidecar["last_hash"]):
            raise Broken(f"the file ends after {count} lines, the sidecar says {sidecar['lines']}")
    if (digest, size) != (sidecar["sha256"], sidecar["size"]):
        raise Broken("the file does not have the SHA-256 of its sidecar")
    return f"{count} lines of {organization}, from {sidecar['first_line']} to {sidecar['last_line']}: unbroken, SHA-256 {digest}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--sidecar", help="default: the file's name with .sidecar.json")
    parser.add_argument("--key", default="", help="the installation's public key, 64 hexadecimal digits")
    parser.add_argument("--anchors", default="", help="file of signed checkpoints that was kept elsewhere")
    options = parser.parse_args(arguments)
    try:
        sidecar = json.loads(Path(options.sidecar or options.file + ".sidecar.json").read_text(encoding="utf-8"))
        words = verify(options.file, sidecar, options.key, options.anchors)
    except Broken as finding:
        sys.stdout.write(f"BROKEN: {finding}\n")
        return 1
    except (OSError, ValueError, KeyError, TypeError) as unreadable:
        sys.stderr.write(f"cannot be read: {type(unreadable).__name__}: {unreadable}\n")
        return 2
    sys.stdout.write(f"OK: {words}\n")
    if not options.key:
        sys.stdout.write("The key came with the file: give --key to prove who made it.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
