"""`heteroscale place` answers a what-if: table, sentences, JSON and picture; it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.test_topology import REPO, Run, run
from tests.unit.report.test_html import embedded

__all__ = ["run"]

ASKED = ("place", "--inventory", "examples/inventory.yaml", "--services")
WISHES = "examples/wishes.yaml"
SERVICES = "examples/services.yaml"


def test_the_page_of_the_documentation_is_what_is_printed(run: Run) -> None:
    code, out, err = run(*ASKED, WISHES)
    assert (code, err) == (0, "")
    assert f"```\n{out}```" in (REPO / "docs" / "topology.md").read_text(encoding="utf-8")


def test_as_json(run: Run) -> None:
    code, out, err = run(*ASKED, WISHES, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["services"][1] == {
        "service": "chat",
        "role": "decode",
        "units": 1.0,
        "wanted": 3.0,
        "now": {"H20": 1},
        "proposed": {"H20": 2},
        "missing": 1,
    }
    assert found["grants"] == [
        {
            "service": "chat",
            "group": "g0",
            "role": role,
            "accelerator": "H20",
            "domain": ["west", "core-1"],
            "replicas": 1,
            "nodes": [[name]],
            "price_per_hour": 9.6,
        }
        for role, name in (("decode", "w-03"), ("prefill", "w-04"))
    ]
    assert [(one["instance"], one["nodes"]) for one in found["releases"]] == [
        ("east/chat-large/g0/decode/H20/d1", ["e-07", "e-08"]),
        ("east/chat-large/g0/prefill/H800/e-03.0", ["e-03"]),
    ]
    causes = {"full": 9, "wrong accelerator": 6, "unhealthy": 1}
    assert found["no_fits"] == [
        {"service": "chat", "missing": {"decode": 1, "prefill": 1}, "causes": causes}
    ]
    assert found["price_per_hour"] == pytest.approx(2 * 8 * 1.2 - 2 * 8 * 1.2 - 8 * 2.6)
    assert (found["use_known"], found["faults"]) == (True, [])
    assert len(found["reasons"]) == 6


def test_the_plan_lies_over_the_picture(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "plan.html"
    code, out, _ = run(*ASKED, WISHES, "--html", str(picture))
    text = picture.read_text(encoding="utf-8")
    assert (code, out) == run(*ASKED, WISHES)[:2]
    drawn = embedded(text)
    moved = {node[0]: [move[2] for move in node[7]] for node in drawn["nodes"] if len(node) > 7}
    assert moved == {"e-03": [-8], "e-07": [-8], "e-08": [-8], "w-03": [8], "w-04": [8]}
    at = {drawn["domains"][grant[0]][0] for grant in drawn["grants"]}
    assert at == {"core-1"}
    assert "2 instances would be placed, 2 would leave; 2 capacity units fit nowhere." in text
    assert "It would cost 20.80 an hour less." in text
    assert "leave group g0 at east (e-03)" in text


def test_what_is_wanted_may_stand_on_the_command_line(run: Run) -> None:
    words = ("--want", "chat/prefill=1", "--want", "chat/decode=1")
    _, out, _ = run(*ASKED, WISHES, *words)
    assert "chat " not in out
    assert "chat-large" in out


def test_a_fleet_that_has_what_it_wants(run: Run, tmp_path: Path) -> None:
    code, out, err = run(*ASKED, SERVICES)
    assert (code, out, err) == (0, "Every service has what it wants: nothing would change.\n", "")
    picture = tmp_path / "plan.html"
    assert json.loads(run(*ASKED, SERVICES, "--json", "--html", str(picture))[1])["grants"] == []
    assert "0 instances would be placed" in picture.read_text(encoding="utf-8")


def test_more_costs_more_and_what_nobody_knows_is_said(run: Run, tmp_path: Path) -> None:
    more = ("--want", "chat-large/prefill=3", "--want", "chat-large/decode=2")
    _, out, _ = run(*ASKED, WISHES, *more)
    assert out.splitlines()[-1] == "It would cost 19.20 an hour more."
    nodes = [
        {"name": name, "accelerator": "H20", "gpus": 8, "labels": {"S2": "h"}} for name in "ab"
    ]
    file = tmp_path / "fleet.json"
    file.write_text(json.dumps({"nodes": nodes}), encoding="utf-8")
    words = ("--want", "chat/prefill=1", "--want", "chat/decode=1")
    code, out, err = run("place", "--inventory", str(file), "--services", SERVICES, *words)
    assert (code, err.splitlines()[0]) == (0, "2 faults: 2 no switch")
    assert out.splitlines() == [
        "service  role     now   wanted   proposed  missing",
        "chat     prefill  none  1 units  1 H20",
        "chat     decode   none  1 units  1 H20",
        "",
        "chat: 1 decode on H20 placed in group g0 at main (a)",
        "chat: 1 prefill on H20 placed in group g0 at main (b)",
        "",
        "The inventory does not say what all of these GPUs cost.",
        "The inventory says nothing about use: every healthy node counts as free.",
    ]


def test_what_cannot_leave_stays_and_is_told(run: Run) -> None:
    # one of each role is the least that serves, so chat gives up nothing
    text = (REPO / WISHES).read_text(encoding="utf-8")
    assert "min_replicas" not in text
    words = ("--want", "chat/prefill=1", "--want", "chat/decode=1")
    _, out, _ = run(*ASKED, WISHES, *words, "--want", "chat-large/decode=2")
    assert "chat-large: 1 prefill on H800 leave group g0 at east (e-03)" in out.splitlines()


@pytest.mark.parametrize(
    "wish", ["chat", "chat/decode", "chat/decode=", "chat=3", "/decode=3", "a/b=-1"]
)
def test_a_wish_that_is_not_written_as_one(run: Run, wish: str) -> None:
    code, out, err = run(*ASKED, WISHES, "--want", wish)
    assert (code, out) == (2, "")
    assert err == f"--want: must be SERVICE/ROLE=UNITS, e.g. chat/decode=8, got '{wish}'\n"


def test_services_and_inventory_speak_of_the_same_levels(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(
        "levels: {rack: a, hall: b}\n"
        "nodes: [{name: n, accelerator: H20, gpus: 8, labels: {a: r, b: h}}]\n",
        encoding="utf-8",
    )
    code, out, err = run("place", "--inventory", str(file), "--services", WISHES)
    assert (code, out) == (2, "")
    assert err == (
        "fleet.levels: must be those of the inventory, rack, hall, got ['S0', 'S1', 'S2']\n"
    )


def test_a_synthetic_fleet_can_be_asked(run: Run, tmp_path: Path) -> None:
    fleet, wishes = str(tmp_path / "fleet.json"), str(tmp_path / "wishes.json")
    made = ("--synthetic", "--nodes", "120", "--out", fleet, "--wishes", wishes)
    assert run("topology", *made)[0] == 0
    assert run("validate", fleet, wishes) == (
        0,
        f"{fleet}: ok (120 nodes)\n{wishes}: ok (20 services, 4 wishes)\n",
        "",
    )
    code, out, err = run("place", "--inventory", fleet, "--services", wishes, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["grants"]
    assert {one["service"] for one in found["services"]} == {
        one["service"] for one in found["reasons"]
    }


def test_advice_on_scarce_subgroups_comes_last_when_asked_for(run: Run) -> None:
    told = "No group in a scarce subgroup would fit one that is less scarce.\n"
    code, out, _ = run(*ASKED, WISHES, "--defragment")
    assert (code, out) == (0, run(*ASKED, WISHES)[1] + "\n" + told)
    code, out, _ = run(*ASKED, SERVICES, "--defragment")
    assert (code, out) == (0, run(*ASKED, SERVICES)[1] + "\n" + told)
    found = json.loads(run(*ASKED, WISHES, "--defragment", "--json")[1])
    assert (found["moves"], found["moved_to"]) == ([], [])
