"""Joins the parts of the installer into the one file `install.py` that travels in a package. Same parts, same bytes."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PARTS = (
    "problems",
    "ed25519",
    "archive",
    "contents",
    "engine",
    "savetar",
    "state",
    "images",
    "containers",
    "actions",
    "main",
)
FOLDER = Path(__file__).parent / "installer"
INSIDE = "cloudnodes.packages.installer"
HEAD = '''#!/usr/bin/env python3
"""Install cloud nodes from this package, without any network. Needs Python 3.8+ and Docker 20.10+, nothing else.

    python3 install.py --package X.zip [--start] [--dry-run]
    python3 install.py --help
"""

from __future__ import annotations

'''
TAIL = """

if __name__ == "__main__":
    sys.exit(main())
"""


@cache
def assemble() -> bytes:
    """The text of `install.py`. Raises ValueError when two parts define the same name."""
    imports: set[str] = set()
    owners: dict[str, str] = {}
    bodies: list[str] = []
    for part in PARTS:
        text = (FOLDER / f"{part}.py").read_text(encoding="utf-8")
        body = _body(part, text, imports, owners)
        bodies.append(
            f"# --- {part}: {ast.get_docstring(ast.parse(text), clean=False)}".replace("\n", "\n# ").replace(
                "\n# \n", "\n#\n"
            )
            + f"\n\n{body}"
        )
    plain = sorted(line for line in imports if line.startswith("import "))
    named = sorted(line for line in imports if line.startswith("from "))
    return (HEAD + "\n".join([*plain, *named]) + "\n\n" + "\n\n\n".join(bodies) + TAIL).encode()


def _body(part: str, text: str, imports: set[str], owners: dict[str, str]) -> str:
    """The part without its docstring and imports; the imports from outside go into `imports`, one name a line."""
    tree = ast.parse(text)
    lines = text.splitlines()
    drop: set[int] = set()
    for number, node in enumerate(tree.body):
        is_docstring = number == 0 and isinstance(node, ast.Expr)
        if isinstance(node, ast.Import | ast.ImportFrom) or is_docstring:
            drop.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        if isinstance(node, ast.Import):
            imports.update(f"import {alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.ImportFrom)
            and node.module != "__future__"
            and not (node.module or "").startswith(INSIDE)
        ):
            imports.update(f"from {node.module} import {alias.name}" for alias in node.names)
        for name in _defined(node):
            if owners.setdefault(name, part) != part:
                raise ValueError(f"{part} and {owners[name]} both define {name}")
    return "\n".join(line for number, line in enumerate(lines, start=1) if number not in drop).strip()


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    if isinstance(node, ast.Assign):
        names = [n for target in node.targets for n in (target.elts if isinstance(target, ast.Tuple) else [target])]
        return [n.id for n in names if isinstance(n, ast.Name)]
    return []
