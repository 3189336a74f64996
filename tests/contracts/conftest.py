"""What contracts need that must be started once."""

from __future__ import annotations

from tests.cluster.conftest import plane as plane
