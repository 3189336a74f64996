"""Real Dynamo finds its engines through a real API server; ours takes them out and back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.control_plane import programs
from tests.integration.dynamo import own_network

pytestmark = pytest.mark.slow


def test_an_engine_that_is_a_pod_leaves_dynamo_and_comes_back_without_a_loss(
    tmp_path: Path,
) -> None:
    programs()
    folder = os.environ.get("HETEROSCALE_DYNAMO")
    if folder is None:
        pytest.skip("no Dynamo: `make test-integration` installs it, HETEROSCALE_DYNAMO names it")
    python = Path(folder).resolve() / "bin" / "python"
    with own_network() as network:
        words = ["-m", "tests.cluster.dynamo_discovery", str(python), str(tmp_path)]
        done = subprocess.run(
            [*network.prefix, sys.executable, *words], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
