"""What the guides tell to apply is taken by a real API server, key by key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kinds import installed
from tests.cluster.shipped import applied, chart
from tests.cluster.test_custom_resource import install
from tests.cluster.worlds import fleet_of
from tests.guides import Block, blocks


@pytest.fixture(scope="module")
def ready(plane: ControlPlane) -> Iterator[ControlPlane]:
    """Yield a control plane that knows the kinds of every guide."""
    with plane.client() as client, installed(client), fleet_of(client, "serving"):
        install(client)
        yield plane


@pytest.mark.parametrize("block", [one for one in blocks() if not one.file], ids=str)
def test_every_object_is_taken(ready: ControlPlane, block: Block) -> None:
    done = applied(ready, block.objects, "--dry-run=server")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("block", [one for one in blocks() if one.file == "values.yaml"], ids=str)
def test_values_are_taken_by_the_chart(ready: ControlPlane, block: Block, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(block.text, encoding="utf-8")
    done = applied(ready, chart("--values", str(file)), "--dry-run=server")
    assert "error" not in done.stderr
