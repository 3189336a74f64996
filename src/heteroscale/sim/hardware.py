"""From a scenario's counts to nodes with domains, and from its links to transfer costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from heteroscale.config.scenario_sections import (
    ContentionName,
    LinkSection,
    NetworkSection,
    NodesSection,
)
from heteroscale.entities.topology import Node
from heteroscale.sim.serving import NetworkTable
from heteroscale.workload.arrivals import PS_PER_S

_FS_PER_S = 1e15


def nodes_by_subcluster(sections: Sequence[NodesSection]) -> Mapping[str, tuple[Node, ...]]:
    """Return sub-cluster → its nodes in first-fit order (by domain and name)."""
    nodes: dict[str, list[Node]] = {}
    for index, section in enumerate(sections):
        nodes.setdefault(section.subcluster, []).extend(_nodes(section, index))
    return {
        name: tuple(sorted(of_one, key=lambda node: (node.domain, node.name)))
        for name, of_one in sorted(nodes.items())
    }


def _nodes(section: NodesSection, block: int) -> Iterator[Node]:
    """Yield one block of equal nodes; it shares switches with blocks that name the same ones."""
    wiring = str(block) if section.switches is None else section.switches
    for index in range(section.nodes):
        s0 = index // section.nodes_per_s0
        s1 = s0 // section.s0_per_s1
        s2 = s1 // section.s1_per_s2
        yield Node(
            name=f"{section.subcluster}-{block}-{index:05}",
            accelerator=section.accelerator,
            gpus=section.gpus_per_node,
            domain=(
                section.subcluster,
                f"s2-{wiring}-{s2:04}",
                f"s1-{wiring}-{s1:04}",
                f"s0-{wiring}-{s0:05}",
            ),
        )


def network_table(network: NetworkSection) -> NetworkTable:
    """Return latency and time per byte by distance, in the kernel's integers."""
    links = (
        network.node,
        network.S0,
        network.S1,
        network.S2,
        network.subcluster,
        network.other,
    )
    a, b, c, d, e, f = (_latency_ps(link) for link in links)
    u, v, w, x, y, z = (_fs_per_byte(link) for link in links)
    return NetworkTable(latency_ps=(a, b, c, d, e, f), fs_per_byte=(u, v, w, x, y, z))


def uplink_fs_per_byte(network: NetworkSection) -> tuple[int, int, int] | None:
    """Return the time per byte over the uplink of an S0, S1 and S2; None = they are not shared."""
    if network.contention is ContentionName.NONE:
        return None
    shared = network.uplinks
    s0, s1, s2 = (
        max(1, round(_FS_PER_S / (gb_per_s * 1e9)))
        for gb_per_s in (shared.S0, shared.S1, shared.S2)
    )
    return s0, s1, s2


def _latency_ps(link: LinkSection) -> int:
    return round(link.latency_s * PS_PER_S)


def _fs_per_byte(link: LinkSection) -> int:
    return max(1, round(_FS_PER_S / (link.gb_per_s * 1e9)))
