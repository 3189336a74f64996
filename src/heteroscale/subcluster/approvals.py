"""Which plans people have approved in ScaledServices, until when, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable

from heteroscale.config.scaled_service import Asked
from heteroscale.entities.service import Mode
from heteroscale.loop import TickReport


class Approvals:
    """Remembers what was carried out, so that one approval is good for one plan."""

    def __init__(self) -> None:
        """Know of nothing yet."""
        #: (service, plan)
        self._done: frozenset[tuple[str, str]] = frozenset()

    def standing(self, asked: Iterable[Asked], now_s: float) -> dict[str, str]:
        """Return service → the plan that may be carried out, if it still is the plan."""
        named = {(one.spec.name, one.approval.plan): one for one in asked if one.approval}
        self._done = frozenset(one for one in self._done if one in named)
        return {
            service: plan
            for (service, plan), one in named.items()
            if one.spec.mode is Mode.RECOMMEND
            and one.approval is not None
            and now_s < one.approval.until_s
            and (service, plan) not in self._done
        }

    def carried_out(self, standing: dict[str, str], report: TickReport) -> None:
        """Take in what a tick sent by these approvals."""
        sent = {one.service for one in report.sent}
        self._done |= {(service, plan) for service, plan in standing.items() if service in sent}

    def in_words(self, asked: Asked, now_s: float) -> str:
        """Return what became of an approval; "" = there is none."""
        approval = asked.approval
        if approval is None or asked.spec.mode is not Mode.RECOMMEND:
            return ""
        if (asked.spec.name, approval.plan) in self._done:
            return f"plan {approval.plan} was approved and is carried out"
        if now_s >= approval.until_s:
            return f"the approval of plan {approval.plan} has ended"
        return f"plan {approval.plan} is approved, and is not the plan by now"
