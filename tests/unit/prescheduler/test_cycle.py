from __future__ import annotations

from dataclasses import replace

from heteroscale.entities.placement import PlacementPlan, PlacementRequest
from heteroscale.entities.snapshot import Snapshot
from heteroscale.prescheduler.cycle import NO_PLACEMENT, closed_groups, place_all
from tests.builders import NOW_S, build_service, build_snapshot
from tests.world import build_inventory, build_nodes

SERVICE = build_snapshot(prefill=2, decode=2)
NODES = (*build_nodes(4), *build_nodes(4, domain=("west",)), *build_nodes(1, domain=()))


def snapshot(*unreachable: str) -> Snapshot:
    return Snapshot(
        now_s=NOW_S,
        services={"chat": SERVICE},
        inventory=build_inventory(*NODES[:-1]),
        unreachable=unreachable,
    )


def request(**wanted: dict[str, int]) -> PlacementRequest:
    return PlacementRequest(spec=build_service(), snapshot=SERVICE, **wanted)  # type: ignore[arg-type]


def subclusters(plan: PlacementPlan) -> set[str]:
    return {grant.subcluster for grant in plan.grants}


def test_without_requests_nothing_is_built() -> None:
    assert place_all([], snapshot(), ()) is NO_PLACEMENT


def test_what_is_out_of_reach_is_not_placed_on() -> None:
    asked = replace(request(add={"prefill": 3, "decode": 3}), closed=(("east", "chat-a"),))
    assert subclusters(place_all([asked], snapshot(), ())) == {"east", "west"}
    assert subclusters(place_all([asked], snapshot("east"), ())) == {"west"}
    bare = replace(snapshot("east"), inventory=build_inventory(*NODES))
    assert subclusters(place_all([asked], bare, ())) == {"west"}


def test_taking_away_needs_no_inventory() -> None:
    plan = place_all([request(remove={"prefill": 1})], snapshot(), ())
    assert [release.uids for release in plan.releases] == [("chat-a/prefill/H20/1",)]


def test_groups_out_of_reach() -> None:
    assert closed_groups(SERVICE, ("east",), set()) == (("east", "chat-a"),)
    assert closed_groups(SERVICE, ("west",), {("west", "g0")}) == (("west", "g0"),)
