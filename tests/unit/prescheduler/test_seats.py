from __future__ import annotations

import pytest

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.topology import DomainPath
from heteroscale.errors import InvariantViolation
from heteroscale.prescheduler.ledger import Ledger
from heteroscale.prescheduler.pose import Ground
from heteroscale.prescheduler.problem import Cell
from heteroscale.prescheduler.seats import seat
from heteroscale.prescheduler.topology import build_tree
from tests.builders import H20
from tests.world import build_inventory, build_nodes

S1: DomainPath = ("east", "a", "a1")


def test_more_than_a_cell_has_is_our_fault() -> None:
    inventory = build_inventory(*build_nodes(2, domain=S1))
    ledger = Ledger.of(inventory, build_tree(inventory, ("S0", "S1", "S2")), ())
    cell = Cell(domain=S1, accelerator="H20", scarcity=Scarcity.LOW, node_gpus=8, whole=(2,))
    ground = Ground(cells=[cell], nodes=[[0, 1]])
    with pytest.raises(InvariantViolation, match="east/a/a1: no node for what was placed there"):
        seat(ground, ledger, {0: [(0, H20, 3)]})
