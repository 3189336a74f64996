from __future__ import annotations

import math

import pytest

from heteroscale.adapters.histogram import quantile_of

EVEN = {"0.1": 1.0, "0.2": 2.0, "0.4": 4.0, "+Inf": 4.0}


@pytest.mark.parametrize(
    ("quantile", "buckets", "value"),
    [
        pytest.param(0.5, EVEN, 0.2, id="on an edge"),
        pytest.param(0.75, EVEN, 0.3, id="between two edges events are spread evenly"),
        pytest.param(0.125, EVEN, 0.05, id="below the first edge they are spread from zero"),
        pytest.param(
            0.9, {"0.1": 1.0, "+Inf": 10.0}, 0.1, id="above the last edge it is that edge"
        ),
        pytest.param(0.5, {"1": 1.0, "1.0": 1.0, "+Inf": 4.0}, 1.0, id="one edge, spelled twice"),
        pytest.param(
            0.9, {"1": 5.0, "2": 3.0, "+Inf": 5.0}, 0.9, id="a count that falls stays as it was"
        ),
        pytest.param(
            0.5,
            {"1": 1.0, "2": 1.0 + 1e-13, "3": 2.0, "+Inf": 2.0},
            1.0,
            id="what another order of adding would have given is no event",
        ),
        pytest.param(0.5, {"-1": 3.0, "1": 4.0, "+Inf": 4.0}, -1.0, id="below zero it is the edge"),
        pytest.param(0.5, {"0.1": 0.0, "+Inf": 0.0}, math.nan, id="no event"),
        pytest.param(0.5, {"0.1": 1.0, "0.2": 1.0}, math.nan, id="no bucket for all"),
        pytest.param(0.5, {"+Inf": 1.0}, math.nan, id="only a bucket for all"),
        pytest.param(0.5, {}, math.nan, id="nothing"),
        pytest.param(0.5, {"0.1": math.nan, "+Inf": math.nan}, math.nan, id="rates that are none"),
    ],
)
def test_a_quantile_is_read_off_merged_buckets(
    quantile: float, buckets: dict[str, float], value: float
) -> None:
    assert quantile_of(quantile, buckets) == pytest.approx(value, nan_ok=True)
