"""Soft scale-in beside plain termination, on real Dynamo processes under the same load.

Both sides have the same services, loop, signals and termination (SIGTERM, SIGKILL 5 s later). On
the soft side an instance leaves Dynamo's discovery first, is watched, and ends once it is idle.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.dynamo import own_network

SIDES = ("soft", "plain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What `benchmarks.dynamo.side` wrote."""

    name: str
    found: dict[str, Any]

    @property
    def events(self) -> int:
        """Return how many instances were taken away."""
        return int(self.found["tally"]["ended"])

    @property
    def failed(self) -> int:
        """Return how many requests did not get every token."""
        return int(self.found["failed"])


def compared(python: Path, folder: Path, bursts: int, *more: str) -> tuple[Side, ...]:
    """Return both sides, run one after the other in a network of their own.

    Args:
        more: words for `benchmarks.dynamo.side`.

    Raises:
        CalledProcessError: a side did not come to its end; its log says why.
    """
    words = ("--python", str(python), "--bursts", str(bursts))
    with own_network() as network:
        return tuple(_run(name, network.prefix, folder, (*words, *more)) for name in SIDES)


def table(sides: tuple[Side, ...]) -> str:
    """Return what the sides came to, one a line."""
    rows = [
        "| scale-in | events | restored | requests | of them ≥ 20 s | failed | share |",
        "|---|---|---|---|---|---|---|",
    ]
    for side in sides:
        requests, tally = side.found["requests"], side.found["tally"]
        rows.append(
            f"| {side.name} | {side.events} | {tally['restored']} | {requests} "
            f"| {side.found['long_requests']} | {side.failed} | {side.failed / requests:.2%} |"
        )
    rows += ["", "| p90 TTFT, s | calm | " + " | ".join(_since(sides)) + " |"]
    rows.append("|---" * (2 + len(_since(sides))) + "|")
    for side in sides:
        bins = side.found["ttft_p90_s"]
        over = " | ".join(f"{bins.get(name, 0.0):.2f}" for name in _since(sides))
        rows.append(f"| {side.name} | {side.found['calm_ttft_p90_s']:.2f} | {over} |")
    return "\n".join(rows)


def _since(sides: tuple[Side, ...]) -> list[str]:
    """Return the spans of a burst, in order."""
    names = {name for side in sides for name in side.found["ttft_p90_s"]}
    return sorted(names, key=lambda name: float(name.partition("-")[0]))


def _run(name: str, prefix: Sequence[str], folder: Path, asked: Sequence[str]) -> Side:
    place = folder / name
    place.mkdir()
    words = [*asked, "--folder", str(place), *(["--plain"] if name == "plain" else [])]
    with (place / "loop.log").open("wb") as log:
        command = [*prefix, sys.executable, "-m", "benchmarks.dynamo.side", *words]
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
    return Side(name=name, found=json.loads((place / "found.json").read_text(encoding="utf-8")))


def main() -> None:
    """Run both sides and print the table; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="of Dynamo's environment")
    parser.add_argument("--bursts", type=int, default=7, help="each is some nine scale-in events")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-dynamo-"))
    print(f"two sides of {asked.bursts} bursts, logs in {folder}", flush=True)
    sides = compared(asked.python.absolute(), folder, asked.bursts)
    print(table(sides))
    print(json.dumps({side.name: side.found for side in sides}))


if __name__ == "__main__":
    main()
