"""Between the life of instances and the serving kernel, where each instance is an engine."""

from __future__ import annotations

from collections.abc import Mapping

from heteroscale.entities.service import RolePath
from heteroscale.entities.topology import DomainPath, Node
from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.kernel_reading import InstanceColumns
from heteroscale.sim.kernel_state import Int64Array
from heteroscale.sim.rows import Row
from heteroscale.sim.serving import Serving

#: (role, accelerator) → step times of one instance
Speeds = Mapping[tuple[str, str], StepCoefficients]


class ServingEngines:
    """Starts, routes and stops the engines of one serving plane."""

    def __init__(self, serving: Serving, speeds: Speeds) -> None:
        self._serving = serving
        self._speeds = speeds
        #: the kernel's numbers, for whoever else brings engines up
        self.places = Places()

    def start(self, row: Row, node: Node, routed: bool) -> int:
        """Bring an engine up on a node and return its handle."""
        _, group, role, accelerator = row.key
        return self._serving.add_instance(
            role,
            self._speeds[role, accelerator],
            group=self.places.group(group),
            location=self.places.location(node),
            capacity=max(1, round(1000 * row.shape.capacity)),
            in_rotation=routed,
        )

    def route(self, engine: int, routed: bool) -> None:
        """Send new requests to an engine, or stop sending them."""
        self._serving.set_rotation(engine, routed)

    def stop(self, engine: int) -> None:
        """Take an engine away; what it still runs starts over elsewhere."""
        take_away(self._serving, engine)

    def requests(self, engine: int) -> int:
        """Return the requests an engine still owes something to."""
        return self._serving.outstanding(engine)

    def counted(self, engines: Int64Array) -> InstanceColumns:
        """Return what engines have counted so far, an entry each."""
        return self._serving.instance_columns(engines)

    def part_busy_ps(self) -> Mapping[RolePath, float]:
        """Return leaf role → time its engines computed, of roles inside others: none here."""
        return {}

    def settle(self) -> None:
        """Let engines that are done with one another part: each is on its own here."""


def take_away(serving: Serving, handle: int) -> None:
    """Remove a kernel instance; what it still runs starts over elsewhere."""
    if serving.outstanding(handle):
        serving.fail(handle)
    else:
        serving.set_rotation(handle, False)
        serving.remove(handle)


class Places:
    """Numbers that the kernel has for groups and domains, in order of first use."""

    def __init__(self) -> None:
        self._domains: dict[DomainPath, int] = {}
        self._groups: dict[str, int] = {}

    def group(self, name: str) -> int:
        """Return a group's number."""
        return self._groups.setdefault(name, len(self._groups))

    def location(self, node: Node) -> tuple[int, int, int, int, int]:
        """Number every domain on the way to a node; a path too short repeats its last domain."""
        path = (*node.domain, *((node.name,) * (5 - len(node.domain))))[:5]
        numbers = [
            self._domains.setdefault(path[: depth + 1], len(self._domains)) for depth in range(5)
        ]
        return (numbers[0], numbers[1], numbers[2], numbers[3], numbers[4])
