"""`heteroscale topology` shows the tree, as deep as it reads, and names faults beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heteroscale.cli import main

REPO = Path(__file__).resolve().parents[3]
EXAMPLE = "examples/inventory.yaml"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs one command line in the repository: words → (exit code, stdout, stderr)."""
    monkeypatch.chdir(REPO)

    def called(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(words)
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out, err

    return called


def written(folder: Path, nodes: list[dict[str, Any]]) -> str:
    file = folder / "fleet.json"
    file.write_text(json.dumps({"nodes": nodes}), encoding="utf-8")
    return str(file)


def nodes_of(count: int, per_switch: int = 4) -> list[dict[str, Any]]:
    """Return nodes of one sub-cluster: so many to an S0, four S0 to an S1, four S1 to an S2."""
    nodes = []
    for index in range(count):
        s0 = index // per_switch
        labels = {"S0": f"r{s0}", "S1": f"p{s0 // 4}", "S2": f"h{s0 // 16}"}
        nodes.append({"name": f"n{index}", "accelerator": "H20", "gpus": 8, "labels": labels})
    return nodes


def test_the_page_of_the_documentation_is_what_is_printed(run: Run) -> None:
    code, out, err = run("topology", EXAMPLE, "--depth", "2")
    assert (code, err) == (0, "")
    assert f"```\n{out}```" in (REPO / "docs" / "topology.md").read_text(encoding="utf-8")


def test_a_small_fleet_is_shown_down_to_its_nodes(run: Run) -> None:
    _, out, _ = run("topology", EXAMPLE)
    lines = out.splitlines()
    assert (
        lines[6]
        == "          e-01                                8       8     0               H800"
    )
    assert not any(line.startswith("folded") for line in lines)
    assert (0, out, "") == run("topology", EXAMPLE, "--depth", "9")


def test_a_large_fleet_is_folded_where_it_would_not_read_any_more(run: Run, tmp_path: Path) -> None:
    _, out, _ = run("topology", written(tmp_path, nodes_of(3000)))
    lines = out.splitlines()
    assert len(lines) == 1 + 1 + 1 + 47 + 1
    assert lines[-1] == "folded: 188 S1, 750 S0, 3,000 nodes (--depth 5 shows everything)"


def test_however_large_it_is_the_sub_clusters_are_shown(run: Run, tmp_path: Path) -> None:
    nodes = [{**node, "subcluster": f"sc{at}"} for at, node in enumerate(nodes_of(80))]
    _, out, _ = run("topology", written(tmp_path, nodes))
    assert len(out.splitlines()) == 1 + 1 + 80 + 1


def test_use_that_is_not_known_is_no_zero(run: Run, tmp_path: Path) -> None:
    _, out, _ = run("topology", written(tmp_path, nodes_of(1)), "--depth", "0")
    assert out.splitlines() == [
        "       subgroup  nodes  down  GPUs  in use  free  whole nodes",
        "fleet                1           8       ?     ?            ?  H20",
        "folded: 1 sub-cluster, 1 S2, 1 S1, 1 S0, 1 nodes (--depth 5 shows everything)",
    ]


def test_nodes_that_stand_above_a_rack_are_shown_where_they_are_known_to_be(
    run: Run, tmp_path: Path
) -> None:
    nodes = [*nodes_of(1), {**nodes_of(1)[0], "name": "stray", "labels": {}}]
    _, out, err = run("topology", written(tmp_path, nodes))
    assert [line.split()[0:2] for line in out.splitlines()[2:4]] == [
        ["sub-cluster", "main"],
        ["stray", "8"],
    ]
    assert err.splitlines()[0] == "1 fault: 1 no switch"


def test_faults_stand_beside_the_tree_and_only_the_first_of_very_many(
    run: Run, tmp_path: Path
) -> None:
    nodes = [
        *nodes_of(2),
        *({**node, "name": f"x{at}", "gpus": 0} for at, node in enumerate(nodes_of(30))),
    ]
    code, out, err = run("topology", written(tmp_path, nodes))
    lines = err.splitlines()
    assert code == 0
    assert "fleet" in out
    assert lines[0] == "30 faults: 30 GPU count"
    assert lines[1].endswith("nodes[2].gpus: must be 1 to 1,024: the node is not used, got 0")
    assert lines[-1] == "… and 10 more: --json lists every one"
    assert len(lines) == 22


def test_a_file_of_no_use_is_a_fault_of_the_operator(run: Run) -> None:
    code, out, err = run("topology", "examples/absent.yaml")
    assert (code, out) == (2, "")
    assert err == "examples/absent.yaml: must be a readable file: No such file or directory\n"


def test_as_json_with_every_domain_node_and_fault(run: Run, tmp_path: Path) -> None:
    nodes = [{**nodes_of(1)[0], "used_gpus": 3}, {"name": "b", "accelerator": "H20", "gpus": 0}]
    file = written(tmp_path, nodes)
    code, out, err = run("topology", file, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    path = ["main", "h0", "p0", "r0"]
    known = {
        "nodes": 1,
        "unhealthy": 0,
        "gpus": {"H20": 8},
        "used_gpus": 3,
        "free_gpus": 5,
        "whole_free_nodes": 0,
    }
    words = [("fleet", None), ("sub-cluster", None), ("S2", "low"), ("S1", "low"), ("S0", None)]
    assert found["levels"] == ["S0", "S1", "S2"]
    assert found["domains"] == [
        {"path": path[:depth], "level": level, **known, "subgroup": subgroup}
        for depth, (level, subgroup) in enumerate(words)
    ]
    assert found["nodes"] == [
        {
            "name": "n0",
            "domain": path,
            "accelerator": "H20",
            "gpus": 8,
            "used_gpus": 3,
            "healthy": True,
        }
    ]
    assert found["faults"] == [
        {
            "kind": "GPU count",
            "path": "nodes[1].gpus",
            "rule": "must be 1 to 1,024: the node is not used",
            "value": 0,
            "line": None,
        }
    ]


def test_what_holds_no_faults_is_valid_json_too(run: Run) -> None:
    _, out, _ = run("topology", EXAMPLE, "--json")
    assert json.loads(out)["faults"] == []


def test_a_synthetic_fleet_is_shown_and_written_as_what_it_is(run: Run, tmp_path: Path) -> None:
    file = str(tmp_path / "fleet.json")
    words = ("--synthetic", "--nodes", "40", "--seed", "7", "--load", "scattered")
    code, out, err = run("topology", *words, "--out", file)
    assert (code, err) == (0, "")
    assert run("topology", file) == (0, out, "")
    assert run("validate", file) == (0, f"{file}: ok (40 nodes)\n", "")
    assert run("topology", *words, "--json")[1] == run("topology", file, "--json")[1]


def test_thousands_of_nodes_read_at_a_glance(run: Run) -> None:
    _, out, _ = run("topology", "--synthetic", "--nodes", "6000")
    assert len(out.splitlines()) <= 70
    assert out.splitlines()[-1] == (
        "folded: 384 S1, 1,536 S0, 6,000 nodes (--depth 5 shows everything)"
    )


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        pytest.param((), "FILE: is required, or --synthetic in its place", id="nothing to show"),
        pytest.param(
            (EXAMPLE, "--synthetic"),
            "FILE: is required, or --synthetic in its place",
            id="two fleets",
        ),
        pytest.param((EXAMPLE, "--out", "x"), "--out: is for --synthetic only", id="a copy"),
        pytest.param(
            ("--synthetic", "--used", "2"), "used_share: must be 0 to 1, got 2.0", id="over-full"
        ),
    ],
)
def test_command_lines_that_make_no_sense(run: Run, words: tuple[str, ...], fault: str) -> None:
    assert run("topology", *words) == (2, "", f"{fault}\n")


def test_the_picture_is_written_beside_what_is_printed(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "fleet.html"
    code, out, err = run("topology", EXAMPLE, "--html", str(picture))
    assert (code, out, err) == run("topology", EXAMPLE)
    assert "<h1>inventory.yaml</h1>" in picture.read_text(encoding="utf-8")
    run("topology", "--synthetic", "--seed", "5", "--html", str(picture))
    assert "<h1>synthetic fleet 5</h1>" in picture.read_text(encoding="utf-8")


def test_a_picture_that_cannot_be_written_is_said(run: Run, tmp_path: Path) -> None:
    picture = str(tmp_path / "absent" / "fleet.html")
    code, _, err = run("topology", EXAMPLE, "--html", picture)
    assert (code, err) == (1, f"heteroscale: {picture}: No such file or directory\n")
