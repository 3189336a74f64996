"""The page of a fleet in a real browser: it draws, finds, filters and zooms without an error."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from heteroscale.config.inventory import load_inventory
from heteroscale.config.label_presets import LABEL_PRESETS
from heteroscale.config.wishes import load_wishes
from heteroscale.prescheduler.what_if import what_if
from heteroscale.report.fleet_html import render_fleet
from heteroscale.report.what_if import overlay_of, proposal_of
from heteroscale.workload.fleet_hardware import FleetShape
from heteroscale.workload.fleets import synthetic_fleet

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

_WATCH = """<head><script>
window.faults = [];
addEventListener("error", (event) => faults.push(event.message));
</script>"""
_DO = (Path(__file__).parent / "in_page.js").read_text(encoding="utf-8")


def in_browser(page: str, script: str, folder: Path) -> Any:
    """Return what a script saw on a page; it may await, and must return."""
    file = folder / "page.html"
    added = f"<script>{_DO.replace('SCRIPT', script)}</script></body>"
    text = page.replace("<head>", _WATCH, 1).replace("</body>", added)
    file.write_text(text, encoding="utf-8")
    assert BROWSER is not None
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000")
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [BROWSER, *flags, profile, "--window-size=1300,1000", "--dump-dom", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    note = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert note, done.stderr[-2000:]
    told = json.loads(unescape(note.group(1)))
    assert told["faults"] == []
    return told["seen"]


def example() -> str:
    read = load_inventory(EXAMPLES / "inventory.yaml")
    return render_fleet(read.fleet, "example", read.faults)


def test_it_finds_and_filters(tmp_path: Path) -> None:
    script = """
      const seen = [found()];
      for (const [id, value] of [["find", "chat-large decode"], ["find", ""], ["type", "H800"],
          ["type", ""], ["subgroup", "high"], ["state", "down"], ["subgroup", ""],
          ["state", "whole"], ["state", "part"], ["state", "full"]]) {
        set(id, value); seen.push(found());
      }
      return seen;
    """
    assert in_browser(example(), script, tmp_path) == [
        "16 nodes, 128 GPUs, 44 free",
        "4 nodes, 32 GPUs, 0 free",
        "16 nodes, 128 GPUs, 44 free",
        "6 nodes, 48 GPUs, 24 free",
        "16 nodes, 128 GPUs, 44 free",
        "4 nodes, 32 GPUs, 20 free",
        "1 node, 8 GPUs, 0 free",
        "1 node, 8 GPUs, 0 free",
        "5 nodes, 40 GPUs, 40 free",
        "1 node, 8 GPUs, 4 free",
        "9 nodes, 72 GPUs, 0 free",
    ]


def test_it_draws_and_every_way_to_look_changes_the_picture(tmp_path: Path) -> None:
    script = """
      await painted(); const seen = [ink()];
      const look = async (change) => { change(); await painted(); seen.push(ink()); };
      await look(() => set("colour", "use"));
      await look(() => set("colour", "subgroup"));
      await look(() => set("find", "e-01"));
      await look(() => element("in").click());
      await look(() => document.querySelectorAll("tr[data-domain]")[2].click());
      await look(() => element("all").click());
      const canvas = element("picture"), box = canvas.getBoundingClientRect();
      const at = {clientX: box.left + box.width / 2, clientY: box.top + box.height / 2};
      const turn = new WheelEvent("wheel", {...at, deltaY: -400, cancelable: true});
      await look(() => canvas.dispatchEvent(turn));
      canvas.dispatchEvent(new PointerEvent("pointermove", at));
      canvas.dispatchEvent(new MouseEvent("dblclick", at));
      return seen;
    """
    seen = in_browser(example(), script, tmp_path)
    assert len(seen) == 8
    assert 0 not in seen
    assert all(one != other for one, other in pairwise(seen))


def test_a_plan_can_be_looked_for(tmp_path: Path) -> None:
    read = load_inventory(EXAMPLES / "inventory.yaml")
    wishes = load_wishes(EXAMPLES / "wishes.yaml")
    asked = what_if(read.fleet, wishes.fleet.services, wishes.want)
    plan = overlay_of(read.fleet, asked, proposal_of(read.fleet, wishes.fleet.services, asked))
    page = render_fleet(read.fleet, "example", read.faults, plan)
    script = 'set("state", "moved"); await painted(); return [found(), ink() > 0];'
    # three nodes that lose an instance, and two that get one
    assert in_browser(page, script, tmp_path) == ["5 nodes, 40 GPUs, 16 free", True]


def test_six_thousand_nodes(tmp_path: Path) -> None:
    made = synthetic_fleet(FleetShape(nodes=6000), LABEL_PRESETS["topograph"])
    page = render_fleet(made.known(), "six thousand")
    script = """
      const all = found().split(", ")[0];
      set("state", "down");
      return [all, found()];
    """
    assert in_browser(page, script, tmp_path) == ["6,000 nodes", "60 nodes, 480 GPUs, 0 free"]
