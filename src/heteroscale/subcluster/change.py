"""What became of one write, by what the API server answered."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from heteroscale.entities.action import OutcomeKind
from heteroscale.subcluster.api_server import NotReached, Reply

#: what a failed `test` of a JSON patch is answered with
_TEST_FAILED = "testing"


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one write."""

    kind: OutcomeKind
    detail: str = ""


APPLIED = Change(OutcomeKind.APPLIED)


def refusal(reply: Reply) -> Change:
    """Return what an answer means: the target moved, we may not, or nobody knows."""
    tested = (
        reply.status == HTTPStatus.UNPROCESSABLE_ENTITY and _TEST_FAILED in reply.reason.lower()
    )
    if tested or reply.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
        return Change(OutcomeKind.STALE, reply.reason)
    if reply.status >= 500:
        return Change(OutcomeKind.UNKNOWN, reply.reason)
    return Change(OutcomeKind.REFUSED, reply.reason)


def not_reached(error: NotReached) -> Change:
    """Return what no answer means: whether it was heard nobody knows, unless it was not sent."""
    kind = OutcomeKind.UNKNOWN if error.sent else OutcomeKind.REFUSED
    return Change(kind, str(error))
