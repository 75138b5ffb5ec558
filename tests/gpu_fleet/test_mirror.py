"""The continuous copy on real files with real restic: changes, odd names, clashes, and pushes that nobody took."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from agent.machine import fence, merge, mirror
from agent.machine.merge import Node
from gpu_fleet.providers.restic import Repository

needs_restic = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")


class Side:
    """One machine: its state folder; both see the same path in turn, as two machines would."""

    def __init__(self, folder: Path, tree: Path, repository: Repository) -> None:
        self.state, self.tree, self.kept = folder, tree, folder / "tree"
        folder.mkdir()
        self.kept.mkdir()
        self.order: dict[str, Any] = {
            "paths": [str(tree)],
            "repository": repository.location,
            "password": repository.password,
            "host": "copy",
            "cache": str(folder.parent / "cache"),
            "platform": {"token_file": str(folder / "token")},
        }

    def __enter__(self) -> Side:
        self.kept.rename(self.tree)
        return self

    def __exit__(self, *_: object) -> None:
        self.tree.rename(self.kept)

    def push(self, last: str = "") -> dict[str, Any]:
        return mirror.push({**self.order, "id": "p", "last": last}, lambda **facts: None)

    def pull(self, snapshot: str, mode: str = "mirror", agreed: str = "") -> dict[str, Any]:
        order = {**self.order, "id": "q", "snapshot": snapshot, "mode": mode, "label": "ember", "agreed": agreed}
        return mirror.pull(order, lambda **facts: None)


@needs_restic
def test_what_changed_comes_over_and_clashes_are_kept(tmp_path: Path) -> None:
    repository = Repository(str(tmp_path / "repository"), "secret")
    repository.ensure()
    tree = tmp_path / "workspace"
    gpu, cpu = Side(tmp_path / "gpu", tree, repository), Side(tmp_path / "cpu", tree, repository)
    with gpu:
        (tree / "a [1]*.txt").write_text("one")
        (tree / "deep/er").mkdir(parents=True)
        (tree / "deep/er/b").write_bytes(os.urandom(100_000))
        (tree / "deep/link").symlink_to("er/b")
        (tree / "gone").write_text("x")
        first = gpu.push()["snapshot_id"]
        assert gpu.push(first)["unchanged"]
    with cpu:
        cpu.pull(first)
        assert (tree / "a [1]*.txt").read_text() == "one"
        assert (tree / "deep/link").readlink() == Path("er/b")
    with gpu:
        (tree / "a [1]*.txt").write_text("two!")
        (tree / "gone").unlink()
        second = gpu.push(first)["snapshot_id"]
    with cpu:
        assert cpu.pull(second) == {"snapshot_id": second, "taken": 1, "deleted": 1, "conflicts": 0, "copies": []}
        (tree / "a [1]*.txt").write_text("the standby's")  # it serves now
        third = cpu.push(second)["snapshot_id"]
    with gpu:  # meanwhile cut off, edited, and pushed by an order that counts no more
        (tree / "a [1]*.txt").write_text("cut off")
        (tree / "only here").write_text("kept")
        gpu.push(second)
        told = gpu.pull(third, "merge", agreed=second)
        assert (tree / "a [1]*.txt").read_text() == "the standby's"
        assert (tree / "only here").read_text() == "kept"
        assert told["conflicts"] == 1
        assert [Path(copy).read_text() for copy in told["copies"]] == ["cut off"]


def test_three_ways_in_a_table() -> None:
    old, mine, theirs = Node("f", 1, 1, 0o644), Node("f", 2, 2, 0o644), Node("f", 3, 3, 0o644)
    base = dict.fromkeys(("left", "ours", "theirs", "both", "gone", "edited-gone"), old)
    here = {"left": old, "ours": mine, "theirs": old, "both": mine, "gone": old, "edited-gone": mine, "new": mine}
    there = {"left": old, "ours": old, "theirs": theirs, "both": theirs}
    found = merge.plan(base, here, there, mirror=False, mark="m")
    assert (found.take, found.delete) == (["both", "theirs"], ["edited-gone", "gone"])
    assert found.copies == {"both": "both.conflict-m", "edited-gone": "edited-gone.conflict-m"}
    followed = merge.plan(base, here, there, mirror=True, mark="m")
    assert followed.take == ["both", "ours", "theirs"]  # a follower keeps nothing of its own in place


def test_a_lease_ends_by_the_holders_own_clock_and_never_goes_back() -> None:
    held = fence.Fence()
    held.heard({"serve": True, "epoch": 2, "ttl": 8.0, "renew": 2.0}, 100.0)
    assert held.may_serve(106.0)
    assert not held.may_serve(106.6)
    assert held.must_kill(107.7)
    held.heard({"serve": True, "epoch": 1, "ttl": 8.0}, 200.0)  # late, of an earlier epoch
    assert not held.may_serve(200.0)
    held.heard({"serve": False, "epoch": 3}, 201.0)
    assert held.must_kill(201.0)
