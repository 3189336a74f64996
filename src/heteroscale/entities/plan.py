"""The planner's answer for one tick."""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.entities.action import Action
from heteroscale.entities.decision import Decision
from heteroscale.entities.placement import PlacementPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What every service should have, where, and the changes that lead there.

    Modes play no part here: the loop alone decides whose actions are sent.
    """

    now_s: float
    #: inventory generation the plan was made from
    generation: str
    #: sorted by service name
    decisions: tuple[Decision, ...]
    placement: PlacementPlan
    #: sorted by (service, subcluster, target), removals after withdrawals
    actions: tuple[Action, ...]
