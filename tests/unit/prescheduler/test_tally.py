from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import AcceleratorOption
from heteroscale.prescheduler.form import MANNERS, Told
from heteroscale.prescheduler.problem import Block, Cell, Need, Problem, Request
from heteroscale.prescheduler.standing import Standing


def cell(
    path: str, accelerator: str, whole: int, partial: dict[int, int], node_gpus: int = 8
) -> Cell:
    return Cell(
        domain=tuple(path.split("/")),
        accelerator=accelerator,
        scarcity=Scarcity.LOW,
        node_gpus=node_gpus,
        partial=partial,
        whole=(whole,) if whole else (),
    )


#: the one node of H20 that is whole stands where four instances of 2 GPUs like best to go
CELLS = (
    cell("east/a/a1", "A100", 0, {2: 3}),
    cell("east/a/a1", "H20", 0, {2: 3}),
    cell("east/a/a2", "H20", 1, {2: 1}),
    cell("east/a/a3", "H800", 1, {}),
)


def role(name: str, units: int, *ways: tuple[str, int]) -> Need:
    options = tuple(
        AcceleratorOption(type=kind, gpus=min(gpus, 8), nodes=max(1, gpus // 8), within="S0")
        for kind, gpus in ways
    )
    return Need(role=name, units=units, options=options)


def standing(*needs: Need, cells: Sequence[Cell] = CELLS) -> Standing:
    request = Request(
        name="chat", weight=1.0, steps=1, needs=needs, depths=(2,), new_groups=1, quota={}
    )
    return Standing(Problem(cells=tuple(cells), requests=(request,), cell_depth=3))


SMALL = role("decode", 4, ("H20", 2))
LARGE = role("prefill", 1, ("H20", 8), ("H800", 8))
LAST = role("vision", 4, ("H20", 2), ("A100", 2))


@pytest.mark.parametrize(
    ("needs", "told"),
    [
        pytest.param(
            (role("decode", 1, ("H20", 2)), role("prefill", 1, ("H20", 8))),
            [Told.ALL, Told.ALL],
            id="one way each goes largest first",
        ),
        pytest.param((SMALL, LARGE), [Told.AT_MOST, Told.ALL], id="fewest ways, then largest"),
        pytest.param(
            (SMALL, LARGE, LAST), [Told.NOTHING, Told.ALL], id="who follows may gain by a failure"
        ),
        pytest.param(
            (SMALL, role("prefill", 1, ("H20", 3))),
            [Told.NOTHING, Told.NOTHING],
            id="sizes that leave GPUs over",
        ),
        pytest.param(
            (SMALL, role("prefill", 1, ("H20", 16))), [Told.ALL, Told.ALL], id="whole nodes"
        ),
    ],
)
def test_what_sums_tell(needs: tuple[Need, ...], told: list[Told]) -> None:
    assert standing(*needs).forms[0].told == told


def test_sizes_that_do_not_divide_the_nodes_of_some_cell() -> None:
    cells = (cell("east/a/a1", "H20", 1, {}, node_gpus=4), cell("east/a/a2", "H20", 1, {}))
    small = (role("decode", 1, ("H20", 2)), role("prefill", 1, ("H20", 4)))
    assert standing(*small, cells=cells).forms[0].told == [Told.ALL, Told.ALL]
    small = (role("decode", 1, ("H20", 1)), role("prefill", 1, ("H20", 6)))
    assert standing(*small, cells=cells).forms[0].told == [Told.NOTHING, Told.NOTHING]


@pytest.mark.parametrize(
    ("needs", "blocks"),
    [
        pytest.param(
            (SMALL, replace(LARGE, options=LARGE.options[:1])),
            [(1, 0, 0, 3), (2, 0, 0, 1), (2, 1, 0, 1)],
            id="largest first",
        ),
        pytest.param(
            (SMALL, replace(LARGE, options=(LARGE.options[0], *LAST.options[1:]))),
            [(0, 1, 1, 1), (2, 0, 0, 4)],
            id="small ones break the whole node, which another type stands in for",
        ),
        pytest.param(
            (
                SMALL,
                replace(LARGE, options=(LARGE.options[0], role("", 1, ("V100", 8)).options[0])),
            ),
            [(1, 0, 0, 3), (2, 0, 0, 1), (2, 1, 0, 1)],
            id="small ones break the whole node, so the larger one goes first",
        ),
        pytest.param(
            (SMALL, LARGE, LAST),
            [(1, 2, 0, 3), (2, 0, 0, 4), (2, 2, 0, 1), (3, 1, 1, 1)],
            id="the larger one stands in elsewhere, and leaves its slots to the last",
        ),
    ],
)
def test_where_instances_go(
    needs: tuple[Need, ...], blocks: list[tuple[int, int, int, int]]
) -> None:
    given = standing(*needs)
    form = given.forms[0]
    for one in (form, replace(form, told=[Told.NOTHING, Told.NOTHING])):
        fit = given.fitting.most(one, (2, 0), {}, 1, {}, MANNERS)
        assert fit is not None
        assert [*fit.blocks] == [
            Block(cell=at, need=need, option=option, replicas=replicas)
            for at, need, option, replicas in blocks
        ]
