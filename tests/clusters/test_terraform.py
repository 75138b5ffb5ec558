"""The Terraform snippet: formatted as Terraform wants it, and any name comes out as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from clusters.wizard_views import terraform

needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
NAMES = (
    "lark-prod",
    'it\'s "prod"',
    "${var.curfew_token} %{if true}",
    "back\\slash\nline",
    "Eule 🦉 für alle",
    "#{x} // y",
)


def _terraform(folder: Path, *words: str, told: str = "") -> str:
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1"}
    environment.pop("TF_CLI_CONFIG_FILE", None)
    done = subprocess.run(
        ["terraform", *words], cwd=folder, env=environment, input=told, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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
