"""A week from a file of rates: exact counts, the file's shape, its lengths, its faults."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from heteroscale.errors import ConfigError
from heteroscale.workload.arrivals import ArrivalChunk
from heteroscale.workload.week import S_PER_WEEK, azure_week

HEADER = "minute,code_req_per_min,code_ctx_tok_per_min,conv_req_per_min\n"


def rates_file(folder: Path, lines: str) -> Path:
    path = folder / "rates.csv"
    path.write_text(HEADER + lines, encoding="utf-8")
    return path


def trace_file(folder: Path, name: str, tokens: tuple[int, int]) -> Path:
    path = folder / name
    rows = "".join(f"{second}.0,{tokens[0]},{tokens[1]}\n" for second in range(3))
    path.write_text("arrival_s,input_tokens,output_tokens\n" + rows, encoding="utf-8")
    return path


def joined(chunks: list[ArrivalChunk]) -> ArrivalChunk:
    return ArrivalChunk(
        arrival_ps=np.concatenate([one.arrival_ps for one in chunks]),
        input_tokens=np.concatenate([one.input_tokens for one in chunks]),
        output_tokens=np.concatenate([one.output_tokens for one in chunks]),
    )


def test_two_services_share_the_count_and_each_follows_its_column(tmp_path: Path) -> None:
    # Code arrives in the first half of the week only, conversation all week.
    rates = rates_file(tmp_path, "0,60,1,60\n5040,60,1,60\n5041,0,1,60\n10080,0,1,60\n")
    week = joined(
        list(
            azure_week(
                rates,
                seed=1,
                code_trace=trace_file(tmp_path, "code.csv", (2000, 20)),
                conv_trace=trace_file(tmp_path, "conv.csv", (1000, 200)),
                requests=100_000,
            )
        )
    )
    assert len(week.arrival_ps) == 100_000
    assert np.all(np.diff(week.arrival_ps) >= 0)
    code = week.arrival_ps[week.input_tokens == 2000]
    conv = week.arrival_ps[week.input_tokens == 1000]
    assert len(code) == round(100_000 * 16_803_695 / 44_107_694)
    assert len(code) + len(conv) == 100_000
    assert code[-1] / 1e12 < 5041 * 60
    assert conv[-1] / 1e12 == pytest.approx(S_PER_WEEK, rel=0.01)
    assert np.unique(week.output_tokens).tolist() == [20, 200]


def test_packed_rates_and_the_same_seed_give_the_same_week(tmp_path: Path) -> None:
    plain = rates_file(tmp_path, "0,1,1,1\n10080,2,1,3\n")
    packed = tmp_path / "rates.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    first, second = (joined(list(azure_week(p, seed=5, requests=2000))) for p in (plain, packed))
    other = joined(list(azure_week(plain, seed=6, requests=2000)))
    assert first.arrival_ps.tobytes() == second.arrival_ps.tobytes()
    assert first.input_tokens.tobytes() == second.input_tokens.tobytes()
    assert first.output_tokens.tobytes() == second.output_tokens.tobytes()
    assert first.arrival_ps.tobytes() != other.arrival_ps.tobytes()


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param("minute,other\n1,2\n", [("header", 1)], id="other columns"),
        pytest.param(
            HEADER + "0,1,1,1\n0,1,1,1\n5,-1,1,1\n6,1,1,many\n7,1\n",
            [("line", 3), ("line", 4), ("line", 5), ("line", 6)],
            id="every bad line at once",
        ),
        pytest.param(HEADER + "0,1,1,0\n9,1,1,0\n", [("rates", None)], id="a silent service"),
        pytest.param(HEADER, [("rates", None)], id="no lines"),
    ],
)
def test_faults_name_their_place(
    tmp_path: Path, text: str, faults: list[tuple[str, int | None]]
) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        azure_week(path, seed=1)
    assert [(one.path, one.line) for one in refused.value.problems] == faults
    assert {one.file for one in refused.value.problems} == {str(path)}


def test_a_missing_file_is_the_operators_to_fix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a readable text file"):
        azure_week(tmp_path / "none.csv", seed=1)


def test_the_published_week(traces: Path) -> None:
    rates = traces / "azure2024_week_rates_10min_digitised.csv.gz"
    week = joined(list(azure_week(rates, seed=1, requests=1_000_000)))
    per_hour, _ = np.histogram(week.arrival_ps / 1e12, bins=7 * 24, range=(0, S_PER_WEEK))
    assert per_hour.sum() == 1_000_000
    # Two services whose own peaks are 3.17 and 1.75 times their means.
    assert 1.75 < per_hour.max() / per_hour.mean() < 2.4
