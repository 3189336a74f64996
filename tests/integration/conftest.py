"""Where the real servers are that integration tests run against."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def dynamo_python() -> Path:
    """Return the Python of Dynamo's environment, or skip."""
    folder = os.environ.get("HETEROSCALE_DYNAMO")
    if folder is None:
        pytest.skip("no Dynamo: `make test-integration` installs it and runs this test")
    return Path(folder).resolve() / "bin" / "python"
