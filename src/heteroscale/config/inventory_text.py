"""An inventory file's text from records and instances: the other direction of `inventory`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from heteroscale.entities.snapshot import Instance
from heteroscale.entities.topology import NodeRecord


def inventory_text(
    preset: str, records: Sequence[NodeRecord], instances: Sequence[Instance]
) -> str:
    """Return JSON with a line per node.

    Args:
        preset: family of labels the records carry.
        instances: each is written on every node it holds.
    """
    runs: dict[tuple[str, str], list[dict[str, object]]] = {}
    for one in instances:
        run: dict[str, object] = {
            "service": one.service,
            "group": one.group,
            "role": one.role,
            "gpus": one.gpus,
            # beside the instances of its own group role it needs no longer name
            "instance": one.uid.rpartition("/")[2],
        }
        for name in one.nodes:
            runs.setdefault((one.subcluster, name), []).append(run)
    lines = [
        json.dumps(_node(record, runs.get((record.subcluster, record.name), [])))
        for record in records
    ]
    return f'{{"preset": {json.dumps(preset)}, "nodes": [\n' + ",\n".join(lines) + "\n]}\n"


def _node(record: NodeRecord, runs: list[dict[str, object]]) -> dict[str, object]:
    return {
        "name": record.name,
        "subcluster": record.subcluster,
        "accelerator": record.accelerator,
        "gpus": record.gpus,
        **({} if record.healthy else {"healthy": False}),
        "labels": dict(record.labels),
        "used_gpus": 0,
        **({"runs": runs} if runs else {}),
    }
