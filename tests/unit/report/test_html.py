"""The page of a run: whole, offline, and safe whatever the names and reasons contain."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from heteroscale.report.html import render
from heteroscale.report.plots import plots
from heteroscale.sim.result import FaultNote
from tests.unit.report.results import CHANGES, a_day, an_empty_run

VOID = {"meta", "link", "br", "input"}


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.crossed: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)

    def loads(self) -> list[str]:
        """Return every address that an element of the page points to."""
        return [
            value
            for _, attributes in self.elements
            for name, value in attributes.items()
            if name in {"src", "href", "srcset", "data", "action", "poster"} and value
        ]


def embedded(text: str) -> dict[str, Any]:
    """Return the figures that the page's script reads."""
    match = re.search(
        r'<script type="application/json" id="figures">(.*?)</script>', text, re.DOTALL
    )
    assert match
    found: dict[str, Any] = json.loads(match.group(1))
    return found


def test_the_page_is_whole() -> None:
    page = Page(render(a_day()))
    assert page.crossed == []
    assert page.open == []


def test_the_page_loads_nothing() -> None:
    text = render(a_day())
    assert Page(text).loads() == ["data:,"]
    assert not re.search(r"url\(|@import|\bimport\(|fetch\(|XMLHttpRequest|WebSocket", text)
    assert "default-src 'none'" in text


def test_addresses_stand_only_where_a_licence_asks_for_them() -> None:
    assert set(re.findall(r"https?://[^\s)\"']+", render(a_day()))) == {
        "https://github.com/leeoniya/uPlot"
    }
    assert "Copyright (c) 2022 Leon Sorokin" in render(a_day())


def test_every_series_and_state_is_drawn_exactly_once() -> None:
    result = a_day()
    drawn = [line.key for plot in plots(result) for line in plot.lines]
    states = [
        f"instances/{role}/{state}"
        for role in result.timeline.instances
        for state in ("ready", "starting", "withdrawn")
    ]
    assert sorted(drawn) == sorted([*result.timeline.series, *states])
    figures = embedded(render(result))
    assert set(drawn) <= set(figures["series"])
    assert len(figures["series"]["ttft_p99_s"]) == 288
    assert None in figures["series"]["ttft_p99_s"]


def test_a_series_this_page_has_never_heard_of_is_drawn_all_the_same() -> None:
    day = a_day()
    series = {**day.timeline.series, "cache_hit_share": (0.5,) * 288}
    titles = [
        plot.title for plot in plots(replace(day, timeline=replace(day.timeline, series=series)))
    ]
    assert titles[-1] == "Cache hit share"


def test_states_are_stacked_from_serving_to_gone() -> None:
    day = a_day()
    counts = (1,) * 288
    instances = {
        "decode": dict.fromkeys(("failed", "odd", "draining", "ready", "terminated"), counts)
    }
    drawn = plots(replace(day, timeline=replace(day.timeline, instances=instances)))
    decode = next(plot for plot in drawn if plot.title == "Decode instances")
    assert [line.label for line in decode.lines] == ["ready", "draining", "failed", "odd"]
    assert decode.wide


def test_latency_is_drawn_against_its_limit() -> None:
    limits = {plot.title: plot.limit for plot in plots(a_day()) if plot.limit is not None}
    assert limits == {"TTFT": 1.0, "TBT": 0.04}


def test_every_change_is_told_with_all_its_reasons() -> None:
    text = render(a_day())
    page = Page(text)
    rows = [attributes for tag, attributes in page.elements if tag == "details"]
    assert [float(row["data-at"] or "") for row in rows] == [change.at_s for change in CHANGES]
    assert rows[0]["class"] == "change in"
    assert "prefill 9 → 8, decode 7 → 6" in text
    assert sum(tag == "li" for tag, _ in page.elements) == 3 * len(CHANGES)
    assert embedded(text)["changes"][2] == {
        "at_s": 19_440.0,
        "direction": "out",
        "moves": "prefill 7 → 9, decode 6 → 7",
    }


def test_faults_are_in_the_page_only_where_some_struck() -> None:
    note = FaultNote(at_s=60.0, kind="node_loss", until_s=90.0, struck=("n1",))
    assert embedded(render(replace(a_day(), faults=(note,))))["faults"] == [
        {"at_s": 60.0, "kind": "node_loss"}
    ]
    assert "faults" not in embedded(render(a_day()))


def test_a_change_is_headed_by_the_reason_that_asked_for_it() -> None:
    day = a_day()
    assert f'<span class="gist">{CHANGES[0].headline}</span>' in render(day)
    bare = replace(CHANGES[0], headline="")
    page = render(replace(day, changes=(bare,)))
    assert f'<span class="gist">{CHANGES[0].reasons[0]}' not in page
    assert '<span class="gist">the steps inside say why</span>' in page


def test_a_run_that_did_not_act_says_so_under_its_title() -> None:
    assert 'class="conditions"' not in render(a_day())
    text = render(replace(a_day(), mode="recommend", held_by_operator=("frozen",)))
    said = '<p class="conditions">mode recommend: changes of 0 ticks not sent; frozen</p>'
    assert said in text


def test_services_are_named_when_there_are_several() -> None:
    day = a_day()
    assert "<em>" not in render(day)
    other = replace(day.changes[0], service="search")
    assert "<em>search</em>" in render(replace(day, changes=(*day.changes, other)))


@pytest.mark.parametrize(
    ("gpu_hours", "fixed", "want"),
    [
        pytest.param(
            60.0, 100.0, "40.0 % fewer GPU-hours than the smallest fixed fleet", id="fewer"
        ),
        pytest.param(
            130.0, 100.0, "30.0 % more GPU-hours than the smallest fixed fleet", id="more"
        ),
        pytest.param(60.0, None, "The fleet used 60 GPU-hours.", id="not searched"),
    ],
)
def test_the_verdict(gpu_hours: float, fixed: float | None, want: str) -> None:
    text = render(replace(a_day(), gpu_hours=gpu_hours, gpu_hours_static_peak=fixed))
    assert f'<p class="verdict">{want}' in text


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param("</script><script>alert(1)</script>", id="a script"),
        pytest.param('" onmouseover="alert(1)', id="an attribute"),
        pytest.param("<!-- <img src=x>", id="a comment that never ends"),
        pytest.param("$title ${script}", id="a placeholder of the template"),
        pytest.param("\u2028 & <b>", id="a line separator and an entity"),
    ],
)
def test_no_name_or_reason_can_write_markup(hostile: str) -> None:
    day = a_day()
    harmless = render(replace(day, changes=(day.changes[0],)))
    change = replace(
        day.changes[0],
        service=hostile,
        direction=hostile,
        before={hostile: 1},
        after={hostile: 2},
        reasons=(hostile, "then another", "and a third"),
        headline=hostile,
    )
    series = {**day.timeline.series, hostile: (1.0,) * 288}
    text = render(
        replace(
            day,
            scenario=hostile,
            policy=hostile,
            static_peak={hostile: 1},
            mode=hostile,
            held_by_operator=(hostile,),
            trace_notes=(hostile,),
            changes=(change,),
            timeline=replace(day.timeline, series=series),
        )
    )
    page = Page(text)
    assert (page.crossed, page.open) == ([], [])
    count = [tag for tag, _ in page.elements].count
    plain = [tag for tag, _ in Page(harmless).elements]
    assert {tag: count(tag) for tag in ("script", "img", "b")} == {
        "script": plain.count("script"),
        "img": 0,
        "b": plain.count("b") + 1,  # the title of the plot of the extra series
    }
    assert not any(name.startswith("on") for _, names in page.elements for name in names)
    assert embedded(text)["series"][hostile] == [1] * 288


def test_an_empty_run_is_a_page_too() -> None:
    text = render(an_empty_run())
    assert "Nothing was changed." in text
    assert embedded(text)["plots"] == []


def test_equal_results_give_equal_pages() -> None:
    assert render(a_day()) == render(a_day())
