"""The Terraform snippet: valid and formatted as the real Terraform wants it, and any name comes out as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from clusters.wizard_views import terraform
from tests.fakes.terraform_helm import HelmProvider

needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
NAMES = (
    "lark-prod",
    'it\'s "prod"',
    "${var.curfew_token} %{if true}",
    "back\\slash\nline",
    "Eule 🦉 für alle",
    "#{x} // y",
)


def _asked(folder: Path, *words: str, told: str = "", more: Mapping[str, str] | None = None) -> tuple[int, str]:
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", **(more or {})}
    environment.pop("TF_CLI_CONFIG_FILE", None)
    done = subprocess.run(
        ["terraform", *words], cwd=folder, env=environment, input=told, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


def _terraform(folder: Path, *words: str, told: str = "", more: Mapping[str, str] | None = None) -> str:
    code, said = _asked(folder, *words, told=told, more=more)
    assert code == 0, said
    return said


@needs_terraform
@pytest.mark.parametrize("plain_http", [False, True])
def test_the_snippet_is_read_and_every_name_survives(tmp_path: Path, plain_http: bool) -> None:
    base = "http://curfew.test:8000" if plain_http else "https://curfew.test"
    expressions = []
    for number, name in enumerate(NAMES):
        text = terraform(base, "1.0.0", "cfa_token", json.dumps(name, ensure_ascii=False), plain_http=plain_http)
        (tmp_path / f"snippet{number}.tf").write_text(text)
        body = text[text.index("yamlencode({") + len("yamlencode(") : text.index("})]") + 1]
        entries = [line.strip() for line in body.splitlines()[1:-1]]
        expressions.append(f"{{{', '.join(entries)}}}".replace("= var.curfew_token", '= "cfa_token"'))
    _terraform(tmp_path, "fmt", "-check", "-diff")
    empty = tmp_path / "empty"
    empty.mkdir()
    said = _terraform(empty, "console", told=f"jsonencode([{', '.join(expressions)}])\n")
    found = json.loads(json.loads(said))
    assert [one["clusterName"] for one in found] == list(NAMES)
    assert all((one["url"], one["token"]) == (base, "cfa_token") for one in found)
    assert all(one.get("allowHttp", False) is plain_http for one in found)


@needs_terraform
def test_terraform_validates_it_and_refuses_what_the_provider_does_not_know(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.tf"
    with HelmProvider(tmp_path) as helm:
        for name in NAMES:
            text = terraform("https://curfew.test", "1.0.0", "t", json.dumps(name, ensure_ascii=False), plain_http=True)
            snippet.write_text(text)
            if name == NAMES[0]:
                _terraform(tmp_path, "init", "-backend=false", more=helm.environment())
            said = json.loads(_terraform(tmp_path, "validate", "-json", more=helm.environment()))
            assert (said["valid"], said["diagnostics"]) == (True, [])
        assert helm.asked.count("ValidateResourceConfig") == len(NAMES)
        for wrong in (text.replace("create_namespace", "make_namespace"), text.replace("values = [", "values = {} #")):
            snippet.write_text(wrong)
            code, _ = _asked(tmp_path, "validate", "-json", more=helm.environment())
            assert code == 1, wrong
