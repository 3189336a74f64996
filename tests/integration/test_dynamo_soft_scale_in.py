"""Real Dynamo: its lever, and the production loop that scales it in under load without a loss.

`make test-integration` installs Dynamo into a folder of its own; without it this is skipped.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.dynamo.__main__ import compared, table
from tests.integration.dynamo import own_network
from tests.integration.prometheus_server import binary

pytestmark = pytest.mark.slow


def test_an_engine_out_of_discovery_gets_nothing_new_ends_what_it_has_and_comes_back(
    dynamo_python: Path, tmp_path: Path
) -> None:
    with own_network() as network:
        words = ["-m", "tests.integration.dynamo_lever", str(dynamo_python), str(tmp_path)]
        done = subprocess.run(
            [*network.prefix, sys.executable, *words], capture_output=True, text=True, check=False
        )
    print(done.stdout, done.stderr, sep="\n")
    assert done.returncode == 0


def test_soft_scale_in_of_real_engines_loses_no_request_where_plain_termination_does(
    dynamo_python: Path, tmp_path: Path
) -> None:
    binary("prometheus")
    soft, plain = sides = compared(dynamo_python, tmp_path, 1, "--long-every", "7")
    print(table(sides))
    assert soft.failed == 0
    assert soft.events >= 4
    assert soft.found["long_requests"] > 0
    assert plain.events >= 4
    assert plain.failed > 0
