"""What the instances of one sub-cluster have used so far: GPUs held and engines running."""

from __future__ import annotations

from collections.abc import Mapping

from heteroscale.sim.rows import Meter, Row


class Usage:
    """Exact integrals over simulated time, service by service."""

    def __init__(self) -> None:
        self._gpus: dict[tuple[str, str], Meter] = {}
        self._up: dict[tuple[str, str, str], Meter] = {}

    def hold(self, row: Row, now_ps: int) -> None:
        """Count an instance's GPUs from its request on."""
        held = self._gpus.setdefault((row.key[0], row.key[3]), Meter())
        held.add(row.shape.gpus * row.shape.nodes, now_ps)

    def release(self, row: Row, now_ps: int) -> None:
        """Count an instance's GPUs no longer."""
        self._gpus[row.key[0], row.key[3]].add(-row.shape.gpus * row.shape.nodes, now_ps)

    def run(self, row: Row, engines: int, now_ps: int) -> None:
        """Count an instance's engine in (1) or out (-1)."""
        service, _, role, accelerator = row.key
        self._up.setdefault((service, role, accelerator), Meter()).add(engines, now_ps)

    def gpu_ps(self, service: str, now_ps: int) -> Mapping[str, int]:
        """Return accelerator → GPU × picoseconds of a service, from each instance's request on."""
        return {
            accelerator: meter.total(now_ps)
            for (whose, accelerator), meter in sorted(self._gpus.items())
            if whose == service
        }

    def up_ps(self, service: str, role: str, accelerator: str, now_ps: int) -> int:
        """Return the summed wall time of a role's running engines on one accelerator."""
        meter = self._up.get((service, role, accelerator))
        return 0 if meter is None else meter.total(now_ps)
