"""Proves Dynamo's lever: `PYTHON FOLDER`, inside a network of its own; exit code 0 = proven.

Two engines of each role serve steady requests, some of them long. One of each leaves discovery and
comes back, while everybody counts.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from benchmarks.dynamo.discovery import FileDiscovery
from benchmarks.dynamo.processes import Engine, Page, Processes
from benchmarks.dynamo.side import MIX, WORDS
from benchmarks.dynamo.traffic import Spell, Traffic
from tests.integration.dynamo import DISCOVERY

_PATIENCE_S = 90.0
#: requests that others must be sent, before that none went to the one withdrawn proves anything
_OTHERS = 8
LOAD = Spell(name="steady", length_s=3_600.0, requests_per_s=2.0)


def prove(python: Path, folder: Path) -> None:
    """Raise where the lever does not do what it must."""
    with Processes(python, folder, dict(WORDS)) as processes:
        lever = FileDiscovery(folder / DISCOVERY, folder / "withdrawn")
        roles = {role: (processes.start(role), processes.start(role)) for role in WORDS}
        everyone = [one for pair in roles.values() for one in pair]
        until(lambda: all(processes.page(one) for one in everyone), "every engine tells of itself")
        until(lambda: all(lever.lists(one.name) for one in everyone), "all are in discovery")
        traffic = Traffic(processes.url, MIX, (LOAD,))
        until(traffic.serves, "the front end answers")
        traffic.begin()
        for role in ("decode", "prefill"):
            prove_role(processes, lever, role, *roles[role])
        traffic.end()
        until(traffic.answered, "every request has ended")
        failed = [one for one in traffic.requests if one.failure]
        print(f"{len(traffic.requests)} requests, {len(failed)} failed")
        assert not failed, failed


class Lever(Protocol):
    """What takes an engine out of discovery and back, by its name there."""

    def withdraw(self, engine: str) -> None:
        """Take it out."""
        ...

    def restore(self, engine: str) -> None:
        """Put it back."""
        ...


def prove_role(
    processes: Processes, lever: Lever, role: str, leaver: Engine, stayer: Engine
) -> None:
    """Raise where one engine of a role does not leave discovery and come back as it must."""

    def served(engine: Engine) -> int:
        return _page(processes, engine).served

    def more(engine: Engine, count: int) -> Callable[[], bool]:
        enough = served(engine) + count
        return lambda: served(engine) >= enough

    until(more(leaver, 2), f"the {role} that will leave gets requests")
    until(lambda: _page(processes, leaver).running > 0, f"the leaving {role} has requests")
    lever.withdraw(leaver.name)
    # The front end takes a moment to learn of it.
    until(more(stayer, 2), f"the {role} that stays goes on")
    last = served(leaver)
    until(more(stayer, _OTHERS), f"the {role} that stays gets all requests")
    assert served(leaver) == last, f"a {role} out of discovery got a request"
    print(f"{role}: {_OTHERS} requests, none to the one withdrawn")
    until(lambda: _page(processes, leaver).running == 0, f"the {role} ends what it has")
    lever.restore(leaver.name)
    until(more(leaver, 2), f"the {role} that came back gets requests")


def _page(processes: Processes, engine: Engine) -> Page:
    told = processes.page(engine)
    assert told is not None, "an engine does not tell of itself any more"
    return told


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    nap = threading.Event()
    for _ in range(int(_PATIENCE_S / 0.05)):
        if holds():
            return
        nap.wait(0.05)
    raise AssertionError(f"not within {_PATIENCE_S:g} s: {what}")


if __name__ == "__main__":
    prove(Path(sys.argv[1]), Path(sys.argv[2]))
