"""docs/configuration.md lists exactly the variables that the code reads."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READ = re.compile(
    r"""(?:env(?:\.\w+)?|secret|environ\.get|getenv|get)\(\s*["'](CURFEW_[A-Z_]+|DATABASE_URL|REDIS_URL)["']"""
)


def test_each_variable_is_documented_and_each_documented_one_is_read() -> None:
    sources = [ROOT / "config", ROOT / "core"]
    read = {name for folder in sources for path in folder.rglob("*.py") for name in READ.findall(path.read_text())}
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE))
    assert read == documented
