"""Image references as registries define them: `[domain[:port]/]path[:tag][@digest]`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9\-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[\-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
PATTERN = re.sub(r"\?P<\w+>", "?:", _REFERENCE.pattern)  # for browsers: the `pattern` of an input
_NAME = re.compile(rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)")
LONGEST_NAME = 255
LONGEST = 1024
_HEX = {"sha256": 64, "sha384": 96, "sha512": 128}


class BadImage(ValueError):
    """The text is not an image reference; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Image:
    """A reference in its parts; `domain` is "" for the default registry."""

    domain: str
    path: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        return f"{self.domain}/{self.path}" if self.domain else self.path

    def __str__(self) -> str:
        return f"{self.name}{':' + self.tag if self.tag else ''}{'@' + self.digest if self.digest else ''}"


def parse(text: str) -> Image:
    """Take a reference apart. Raises BadImage."""
    if not text:
        raise BadImage("Name an image, for example python:3.12-slim.")
    if len(text) > LONGEST:
        raise BadImage(f"At most {LONGEST} characters.")
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise BadImage(_complaint(text))
    domain, path = found["domain"] or "", found["path"]
    if domain and not _is_registry(domain):
        if domain != domain.lower() or not re.fullmatch(_COMPONENT, domain):
            raise BadImage("Repository names are written in lower case.")
        domain, path = "", f"{domain}/{path}"
    image = Image(domain, path, found["tag"] or "", found["digest"] or "")
    if len(image.name) > LONGEST_NAME:
        raise BadImage(f"The name is longer than {LONGEST_NAME} characters.")
    if re.fullmatch(r"[0-9a-f]{64}", text):
        raise BadImage("This is an image id; name the repository it comes from.")
    algorithm, _, number = image.digest.partition(":")
    if algorithm in _HEX and not re.fullmatch(rf"[0-9a-f]{{{_HEX[algorithm]}}}", number):
        raise BadImage(f"A {algorithm} digest has {_HEX[algorithm]} hexadecimal digits in lower case.")
    return image


def _is_registry(first: str) -> bool:
    """Docker's rule: the first part is a registry when it has a dot or a port, is localhost, or has capitals."""
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def _complaint(text: str) -> str:
    if any(c.isspace() or not c.isprintable() for c in text):
        return "An image reference has no spaces or control characters."
    if "://" in text:
        return "Leave out the protocol: registry.example.com/team/image:tag."
    rest = text.rsplit("/", 1)[-1]
    if ":" in rest and "@" not in rest and re.fullmatch(_COMPONENT, rest.split(":", 1)[0]):
        return "The tag has letters, digits, _, . and -, at most 128, and begins with a letter, a digit or _."
    if text != text.lower() and _NAME.fullmatch(text.lower().split("@")[0].split(":")[0] or "-"):
        return "Repository names are written in lower case."
    return "This is not an image reference. It looks like python:3.12-slim or registry.example.com/team/image:tag."
