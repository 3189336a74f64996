"""What stands in a scarce subgroup leaves it where it can, whole or in parts."""

from __future__ import annotations

from collections.abc import Sequence

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import AcceleratorOption
from heteroscale.prescheduler.form import MANNERS
from heteroscale.prescheduler.problem import Cell, Home, Need, Problem, Request
from heteroscale.prescheduler.standing import Stand, Standing
from heteroscale.prescheduler.step_down import step_down

LOW, MEDIUM, HIGH = Scarcity


def one_gpu(accelerator: str = "H20", capacity: float = 1.0) -> tuple[AcceleratorOption, ...]:
    return (AcceleratorOption(type=accelerator, gpus=1, capacity=capacity),)


def room(path: str, gpus: int, scarcity: Scarcity = LOW, accelerator: str = "H20") -> Cell:
    """Return a cell with so many free GPUs on one node that is in use."""
    return Cell(
        domain=tuple(path.split("/")),
        accelerator=accelerator,
        scarcity=scarcity,
        node_gpus=8,
        partial={gpus: 1},
    )


def asks(
    steps: int,
    *,
    prefill: Sequence[AcceleratorOption] = one_gpu(),
    decode: Sequence[AcceleratorOption] = one_gpu(),
    prefill_units: int | None = None,
    depths: tuple[int, ...] = (2,),
    homes: tuple[Home, ...] = (),
    new_groups: int = 9,
    name: str = "chat",
) -> Request:
    return Request(
        name=name,
        weight=1.0,
        steps=steps,
        needs=(
            Need(role="decode", units=steps, options=tuple(decode)),
            Need(role="prefill", units=prefill_units or steps, options=tuple(prefill)),
        ),
        depths=depths,
        homes=homes,
        new_groups=new_groups,
    )


def standing_on(cells: Sequence[Cell], *requests: Request) -> Standing:
    return Standing(Problem(cells=tuple(cells), requests=requests, cell_depth=3))


def put(
    standing: Standing, path: str, steps: int, *, request: int = 0, home: int | None = None
) -> Stand:
    """Let steps of a request stand in a domain."""
    domain = tuple(path.split("/"))
    place = standing.domains.level(len(domain)).place(domain)
    assert place is not None
    form = standing.forms[request]
    fit = standing.fitting.most(form, (len(domain), place), {}, steps, {}, MANNERS)
    assert fit is not None
    assert fit.steps == steps
    stand = Stand(request, len(domain), place, home, fit)
    standing.put(stand)
    return stand


def where(standing: Standing, request: int = 0) -> dict[str, int]:
    """Return domain → steps of a request."""
    own = [one for one in standing.placed() if one.request == request]
    return {"/".join(one.domain): one.steps for one in own}


def test_a_part_leaves_although_its_new_group_costs_more_than_the_objective_gains() -> None:
    standing = standing_on([room("e/a/p", 2), room("e/b/p", 6, MEDIUM)], asks(3))
    put(standing, "e/b", 3)
    before = standing.worth
    step_down(standing, [0])
    assert where(standing) == {"e/a": 1, "e/b": 2}
    assert standing.worth < before


def test_steps_come_to_the_group_that_is_opened_in_the_common_subgroup_already() -> None:
    standing = standing_on([room("e/a/p", 4), room("e/b/p", 6, HIGH)], asks(4))
    put(standing, "e/a", 1)
    put(standing, "e/b", 3)
    step_down(standing, [0])
    assert where(standing) == {"e/a": 2, "e/b": 2}


def test_a_group_that_runs_in_a_common_subgroup_grows_though_no_new_one_may_be_opened() -> None:
    home = Home(name="in-a", domain=("e", "a"))
    cells = [room("e/a/p", 2), room("e/b/p", 6, MEDIUM), room("e/c/p", 2)]
    standing = standing_on(cells, asks(3, homes=(home,), new_groups=1))
    put(standing, "e/b", 3)
    step_down(standing, [0])
    assert [(one.domain, one.home, one.steps) for one in standing.placed()] == [
        (("e", "a"), 0, 1),
        (("e", "b"), None, 2),
    ]


def test_what_needs_nothing_scarce_moves_to_the_middle_where_the_common_is_full() -> None:
    standing = standing_on([room("e/a/p", 2, MEDIUM), room("e/b/p", 6, HIGH)], asks(3))
    put(standing, "e/b", 3)
    step_down(standing, [0])
    assert where(standing) == {"e/a": 1, "e/b": 2}


def test_what_leaves_the_middle_for_the_common_leaves_room_for_what_leaves_the_scarcest() -> None:
    cells = [room("e/a/p", 2), room("e/b/p", 2, MEDIUM), room("e/c/p", 6, HIGH)]
    far, near = asks(3, name="far"), asks(1, name="near", depths=(3,))
    # The second may be under one S1 only: it goes where the first, that is served first, does not.
    standing = standing_on(cells, far, near)
    put(standing, "e/c", 3)
    put(standing, "e/b/p", 1, request=1)
    step_down(standing, [1, 0])
    assert where(standing, 1) == {"e/a/p": 1}
    assert where(standing) == {"e/b": 1, "e/c": 2}


def test_steps_that_share_an_instance_leave_together() -> None:
    double = one_gpu(capacity=2.0)
    cells = [room("e/a/p", 2), room("e/b/p", 4, MEDIUM)]
    standing = standing_on(cells, asks(4, prefill=double, decode=double, depths=(3,)))
    put(standing, "e/b/p", 4)
    step_down(standing, [0])
    assert where(standing) == {"e/a/p": 2, "e/b/p": 2}


def test_nothing_leaves_when_what_stays_would_lack_a_role() -> None:
    cells = [
        room("e/a/p", 1, accelerator="L20"),
        room("e/a/q", 2, HIGH, accelerator="H800"),
        room("e/b/p", 1, accelerator="H800"),
        room("e/c/p", 2, accelerator="L20"),
    ]
    # The fullest node with an L20 is the one beside those that would stay.
    request = asks(
        2, prefill=one_gpu("L20"), decode=one_gpu("H800"), prefill_units=1, depths=(2, 1)
    )
    standing = standing_on(cells, request)
    put(standing, "e/a", 2)
    step_down(standing, [0])
    assert where(standing) == {"e/a": 2}


def test_room_that_is_scarce_too_is_no_reason_to_leave() -> None:
    cells = [
        cell for zone in "ef" for cell in (room(f"{zone}/a/p", 1), room(f"{zone}/b/p", 6, HIGH))
    ]
    standing = standing_on(cells, asks(2, depths=(1,)))
    put(standing, "e", 2)
    step_down(standing, [0])
    assert where(standing) == {"e": 2}


def test_a_stand_leaves_for_the_first_of_several_although_a_switch_wakes_for_it() -> None:
    idle = [
        Cell(
            domain=("e", zone, "p"),
            accelerator="H20",
            scarcity=LOW,
            node_gpus=8,
            whole=(1,),
            idle=True,
        )
        for zone in "ab"
    ]
    standing = standing_on([*idle, room("e/c/p", 2, MEDIUM)], asks(1))
    put(standing, "e/c", 1)
    step_down(standing, [0])
    assert where(standing) == {"e/a": 1}


def test_two_stands_of_one_request_leave_together() -> None:
    cells = [
        room("e/a/p", 2, HIGH),
        Cell(
            domain=("f", "a", "p"),
            accelerator="H20",
            scarcity=LOW,
            node_gpus=8,
            whole=(1,),
            idle=True,
        ),
        room("f/b/p", 2, HIGH),
    ]
    standing = standing_on(cells, asks(2, depths=(1,)), asks(4, name="other"))
    put(standing, "e", 1)
    other = put(standing, "f/a", 4, request=1)
    put(standing, "f", 1)
    standing.lift(other)
    # Alone, neither is worth a node and a switch that are opened for it.
    step_down(standing, [0])
    assert where(standing) == {"f": 2}
    assert {block.cell for one in standing.placed() for block in one.blocks} == {1}
