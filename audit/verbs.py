"""The registry of audit verbs. An unregistered verb cannot be recorded; each app registers its own at import.

A verb is `<noun>.<past participle>`; its sentence is what the log page shows, with {target} filled in.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    name: str
    sentence: str


_LINKS = frozenset({"on", "of", "for", "to", "in", "from", "with", "at", "as", "by", "about"})
_registry: dict[str, Verb] = {}


def register(**sentences: str) -> None:
    """`register(node__wake_requested="Asked to wake {target}")`: two underscores stand for the dot."""
    for key, sentence in sentences.items():
        name = key.replace("__", ".", 1)
        _registry[name] = Verb(name, sentence)


def get(name: str) -> Verb:
    """Raises KeyError for a verb nobody registered."""
    return _registry[name]


def all_verbs() -> list[Verb]:
    return sorted(_registry.values(), key=lambda v: v.name)


def sentence(name: str, target: str) -> str:
    verb = _registry.get(name)
    return verb.sentence.replace("{target}", target) if verb else f"{name} {target}"


def deed(name: str) -> str:
    """The sentence without its target, for a table that has the target beside it: "Woke", "Asked to put to sleep"."""
    whole = sentence(name, "{target}").strip()
    words = whole.replace("{target}", " ").split()
    while whole.endswith("{target}") and len(words) > 1 and words[-1] in _LINKS:
        words.pop()
    text = " ".join(words).rstrip(":")
    return text[:1].upper() + text[1:]
