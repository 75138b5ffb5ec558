"""The part of Helm's template language that our chart uses; anything else is an error, so that the chart stays simple.

if/else/end, define/include, quote, default, required, toYaml, nindent, and paths below .Values, .Release, .Chart.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_ACTION = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
_WORD = re.compile(r'"[^"]*"|[^\s|]+')


class Unsupported(Exception):
    """The template uses something that this reader does not know, or `required` found nothing."""


@dataclass
class _Block:
    """A list of texts, expressions and conditions."""

    parts: list[Any] = field(default_factory=list)


@dataclass
class _If:
    condition: str
    then: _Block
    otherwise: _Block


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    place, trim = 0, False
    for found in _ACTION.finditer(text):
        plain = text[place : found.start()]
        plain = plain.lstrip() if trim else plain
        tokens += [("text", plain.rstrip() if found[1] else plain), ("action", found[2])]
        place, trim = found.end(), bool(found[3])
    rest = text[place:]
    return [*tokens, ("text", rest.lstrip() if trim else rest)]


def _parse(tokens: list[tuple[str, str]], defined: dict[str, _Block]) -> tuple[_Block, str]:
    block = _Block()
    while tokens:
        kind, content = tokens.pop(0)
        if kind == "text":
            block.parts.append(content)
        elif content.startswith("if "):
            then, ended_by = _parse(tokens, defined)
            otherwise = _parse(tokens, defined)[0] if ended_by == "else" else _Block()
            block.parts.append(_If(content[3:], then, otherwise))
        elif content.startswith("define "):
            defined[content.split('"')[1]] = _parse(tokens, defined)[0]
        elif content in {"else", "end"}:
            return block, content
        else:
            block.parts.append(("expression", content))
    return block, ""


class Chart:
    """A chart's folder; `render(values)` gives every object it would install."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = yaml.safe_load((folder / "Chart.yaml").read_text(encoding="utf-8"))
        self.defaults = yaml.safe_load((folder / "values.yaml").read_text(encoding="utf-8"))
        self.defined: dict[str, _Block] = {}

    def render(
        self, values: dict[str, Any], *, name: str = "curfew-agent", namespace: str = "curfew"
    ) -> list[dict[str, Any]]:
        texts = self.texts(values, name=name, namespace=namespace)
        objects = [obj for file, text in texts.items() if file.endswith(".yaml") for obj in yaml.safe_load_all(text)]
        return [obj for obj in objects if obj]

    def texts(self, values: dict[str, Any], *, name: str, namespace: str) -> dict[str, str]:
        scope = {
            "Values": _merged(self.defaults, values),
            "Release": {"Name": name, "Namespace": namespace, "Service": "Helm"},
            "Chart": {
                "Name": self.facts["name"],
                "Version": self.facts["version"],
                "AppVersion": self.facts["appVersion"],
            },
        }
        parsed = {}
        for path in sorted((self.folder / "templates").iterdir()):
            parsed[path.name] = _parse(_tokens(path.read_text(encoding="utf-8")), self.defined)[0]
        return {file: self._write(block, scope) for file, block in parsed.items() if not file.startswith("_")}

    def _write(self, block: _Block, scope: dict[str, Any]) -> str:
        written = []
        for part in block.parts:
            if isinstance(part, str):
                written.append(part)
            elif isinstance(part, _If):
                written.append(self._write(part.then if self._value(part.condition, scope) else part.otherwise, scope))
            else:
                value = self._value(part[1], scope)
                written.append(value if isinstance(value, str) else json.dumps(value))
        return "".join(written)

    def _value(self, expression: str, scope: dict[str, Any]) -> Any:
        if expression.startswith("not "):
            return not self._value(expression[4:], scope)
        value: Any = None
        for place, stage in enumerate(re.split(r"\s*\|\s*", expression)):
            words = _WORD.findall(stage)
            value = self._stage(words, value, scope, piped=place > 0)
        return value

    def _stage(self, words: list[str], piped_value: Any, scope: dict[str, Any], *, piped: bool) -> Any:
        function, *rest = words
        arguments = [self._literal(word, scope) for word in rest] + ([piped_value] if piped else [])
        if function == "include":
            return self._write(self.defined[arguments[0]], scope)
        if function == "quote":
            return json.dumps(str(arguments[0]))
        if function == "default":
            return arguments[1] or arguments[0]
        if function == "required":
            if not arguments[1]:
                raise Unsupported(arguments[0])
            return arguments[1]
        if function == "toYaml":
            return yaml.safe_dump(arguments[0], default_flow_style=False).strip()
        if function == "nindent":
            return "\n" + "\n".join(" " * arguments[0] + line for line in arguments[1].splitlines())
        if not rest and not piped:
            return self._literal(function, scope)
        raise Unsupported(" ".join(words))

    @staticmethod
    def _literal(word: str, scope: dict[str, Any]) -> Any:
        if word.startswith('"'):
            return word[1:-1]
        if word.isdigit():
            return int(word)
        if word == ".":
            return scope
        if not word.startswith("."):
            raise Unsupported(word)
        found: Any = scope
        for step in word[1:].split("."):
            if step not in found:
                raise Unsupported(f"{word} is not among the values")
            found = found[step]
        return found


def _merged(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: _merged(base.get(key), value) for key, value in over.items()}}
    return over
