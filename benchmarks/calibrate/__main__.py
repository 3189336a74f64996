"""Runs every check, or those named, and ends with one line of JSON: check → its summary."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping

from benchmarks.calibrate import paper_fit, paper_sweep, splitwise, vllm

#: name → a check: it prints its tables and returns its summary, `passed` among it
CHECKS: Mapping[str, Callable[[], Mapping[str, object]]] = {
    "splitwise": splitwise.check,
    "vllm": vllm.check,
    "paper_sweep": paper_sweep.check,
}


def main(arguments: list[str] | None = None) -> None:
    """Run the checks; exit 1 when one of them missed a bar."""
    parser = argparse.ArgumentParser(prog="benchmarks.calibrate", description=__doc__)
    parser.add_argument("--only", choices=CHECKS, action="append", help="default: all of them")
    parser.add_argument(
        "--fit", action="store_true", help="first repeat the paper's fit and write its constants"
    )
    parsed = parser.parse_args(arguments)
    names = parsed.only or list(CHECKS)
    if parsed.fit:
        paper_fit.write()
    summaries: dict[str, Mapping[str, object]] = {}
    for name in names:
        print(f"# {name}")
        summaries[name] = CHECKS[name]()
        print()
    passed = all(summary["passed"] is True for summary in summaries.values())
    print(json.dumps({**summaries, "passed": passed}))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
