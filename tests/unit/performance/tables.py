"""Performance tables for tests: one by hand, and its text."""

from __future__ import annotations

import json
from typing import Any

from heteroscale.performance.fit import DecodePoint
from heteroscale.performance.table import Clock, LatencyTable, Source


def entry(**changes: Any) -> dict[str, Any]:
    """Return a table as it is written, with some keys changed.

    Its times are prefill 2 + 0.05 t + 1e-6 t², decode 5 + 0.1 n + 2e-5 n c.
    """
    return {
        "model": "m",
        "accelerator": "H100",
        "gpus": 2,
        "parallelism": "tp2",
        "source": {"name": "by hand", "version": "1", "licence": "none"},
        "clock": "engine",
        "kv_bytes_per_token": 1000,
        "kv_capacity_tokens": 50_000,
        "prefill": {
            "tokens": [100, 1000, 2000, 4000],
            "ms": [7.01, 53.0, 106.0, 218.0],
        },
        "decode": {
            "batch": [1, 10, 20],
            "context": [1000, 2000],
            "ms": [[5.12, 5.14], [6.2, 6.4], [7.4, None]],
        },
        **changes,
    }


def text(*entries: dict[str, Any]) -> str:
    """Return the text of a file of tables."""
    return json.dumps({"format": "heteroscale-performance/1", "tables": list(entries)})


TABLE = LatencyTable(
    model="m",
    accelerator="H100",
    gpus=2,
    parallelism="tp2",
    source=Source(name="by hand", version="1", licence="none"),
    clock=Clock.ENGINE,
    kv_bytes_per_token=1000,
    kv_capacity_tokens=50_000,
    prefill=((100, 7.01), (1000, 53.0), (2000, 106.0), (4000, 218.0)),
    decode=(
        DecodePoint(1, 1000, 5.12),
        DecodePoint(1, 2000, 5.14),
        DecodePoint(10, 1000, 6.2),
        DecodePoint(10, 2000, 6.4),
        DecodePoint(20, 1000, 7.4),
    ),
)
