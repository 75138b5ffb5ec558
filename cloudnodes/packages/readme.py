"""README.txt of a package: the lines to type on a workstation."""

from __future__ import annotations

from collections.abc import Sequence

from cloudnodes.packages.format import NodeSpec

TEXT = """{title}
{rule}

Installs {count} on a workstation that has Docker 20.10 or newer and Python 3.8 or newer. No network is needed.{base}

  python3 -c "import zipfile; zipfile.ZipFile('package.zip').extract('install.py')"
  python3 install.py --package package.zip --dry-run
  python3 install.py --package package.zip

(package.zip stands for the name of this package. On Windows: python instead of python3.) Everything is verified before anything is loaded. Containers are left stopped;
add --start to start them. Without an NVIDIA GPU they are set up for the CPU.

{nodes}
{credentials}
Later:
  python3 install.py repair --package package.zip      put right what is missing
  python3 install.py status                          what is installed
  python3 install.py uninstall                       remove every trace
  python3 install.py --help                          everything else, and the exit codes

nodes/<node>/compose.yml is for people who would rather use docker compose; compose.gpu.yml beside it adds the GPU.
"""


def readme(title: str, nodes: Sequence[NodeSpec], is_upgrade: bool) -> bytes:
    """The text, for these nodes."""
    lines = [f"  {n.name}: {_place(n)} ({n.image})" for n in nodes]
    names = sorted({c for n in nodes for c in n.credentials})
    text = TEXT.format(
        title=title,
        rule="=" * len(title),
        count="1 node" if len(nodes) == 1 else f"{len(nodes)} nodes",
        base="\nThis is an upgrade: the earlier package must be installed on the workstation." if is_upgrade else "",
        nodes="\n".join(lines),
        credentials=f"\nSet before installing, in the environment: {', '.join(names)}\n" if names else "",
    )
    return text.encode()


def _place(node: NodeSpec) -> str:
    if node.network == "none":
        return "no network"
    return f"http://localhost:{node.port if node.network == 'bridge' else node.container_port}"
