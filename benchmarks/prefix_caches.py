"""What prefix caches and routing by them are worth on the Mooncake conversation trace: a table."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from heteroscale.app import STATIC, simulate
from heteroscale.config.scenario import Scenario, load_scenario, with_trace
from heteroscale.config.scenario_sections import PrefixCacheSection, RoutingName, ServingSection
from heteroscale.workload.loaders import open_trace
from heteroscale.workload.prefix_share import cacheable_share

SCENARIO = Path(__file__).parents[1] / "examples" / "scenarios" / "mooncake.yaml"
TRACE = "mooncake_fast25_conversation.jsonl.gz"
#: a fixed fleet, so that what is not computed shortens queues instead of the fleet
FLEET = {"prefill": 8, "decode": 2}
BLOCK_TOKENS = 512
#: more than the trace has
ENDLESS_TOKENS = 200_000_000


def servings(share: float) -> dict[str, ServingSection]:
    """Return what is compared, by name.

    Args:
        share: of the prompts, what an endless cache in front of the fleet would have.
    """
    memory = PrefixCacheSection(block_tokens=BLOCK_TOKENS)
    endless = PrefixCacheSection(block_tokens=BLOCK_TOKENS, capacity_tokens=ENDLESS_TOKENS)
    aware = RoutingName.PREFIX_AWARE
    return {
        "no cache": ServingSection(),
        "KV memory, least loaded": ServingSection(prefix_cache=memory),
        "KV memory, prefix aware": ServingSection(prefix_cache=memory, routing=aware),
        "endless, least loaded": ServingSection(prefix_cache=endless),
        "endless, prefix aware": ServingSection(prefix_cache=endless, routing=aware),
        f"`cached_share: {share:.2f}`": ServingSection(cached_share=round(share, 2)),
    }


def row(name: str, scenario: Scenario) -> str:
    """Return one line of the table."""
    result = simulate(scenario, policy=STATIC, static_peak=False).only
    hits = "–" if result.prefix_cache is None else f"{100 * result.prefix_cache.rate:.1f} %"
    ttft_s = (result.ttft_p50_s, result.ttft_p99_s)
    cells = [name, hits, *("–" if value is None else f"{value:.2f}" for value in ttft_s)]
    if result.slo_attainment is not None:
        cells.append(f"{100 * result.slo_attainment:.2f} %")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print what the trace allows, and what each way of serving makes of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, required=True, help="folder of public traces")
    trace = parser.parse_args().traces / TRACE
    share = cacheable_share(open_trace(trace), block_tokens=BLOCK_TOKENS) or 0.0
    print(f"one endless cache in front of the fleet: {100 * share:.2f} % of the prompt tokens")
    for millions in (1, 3, 10, 30):
        tokens = millions * 1_000_000
        part = cacheable_share(open_trace(trace), block_tokens=BLOCK_TOKENS, capacity_tokens=tokens)
        print(f"one of {millions} million tokens: {100 * (part or 0.0):.2f} %")
    print("| caches, routing | hit rate | TTFT p50, s | p99, s | SLO attained |")
    print("| --- | --- | --- | --- | --- |")
    scenario = with_trace(load_scenario(SCENARIO), trace)
    for name, serving in servings(share).items():
        own = replace(scenario.own, initial=FLEET, serving=serving)
        print(row(name, replace(scenario, simulated=(own,))))


if __name__ == "__main__":
    main()
