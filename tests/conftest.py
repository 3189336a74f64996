"""What every test may use: Hypothesis profiles and the folder of public traces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# `ci` draws the same examples on every run, so a change is judged by the change alone; `random` is
# for a night or a suspicion. No deadline: a slow machine is not a wrong answer.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow,),
)
settings.register_profile("random", parent=settings.get_profile("ci"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def traces() -> Path:
    """Return the folder of public traces, or skip: they may not be shipped with the project."""
    folder = Path(os.environ.get("HETEROSCALE_TRACES", REPO.parent / "shared" / "traces"))
    if not folder.is_dir():
        pytest.skip(f"no trace folder at {folder}: set HETEROSCALE_TRACES to run this test")
    return folder
