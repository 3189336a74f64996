"""A self-contained SVG of small panels, one per signal: its course over load or time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 270, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 30, 30
_COLUMNS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One signal's curve."""

    title: str
    #: unit of the values
    unit: str
    x_title: str
    x: Sequence[float]
    #: None = unknown at that point: a gap in the curve
    y: Sequence[float | None]


def picture(title: str, rows: Sequence[tuple[str, Sequence[Panel]]]) -> str:
    """Return an SVG with a heading per row of panels."""
    body: list[str] = []
    top = 44
    for heading, panels in rows:
        body.append(f'<text x="12" y="{top + 16}" class="row">{escape(heading)}</text>')
        top += 26
        for index, panel in enumerate(panels):
            x = (index % _COLUMNS) * _WIDTH
            y = top + (index // _COLUMNS) * _HEIGHT
            body.append(f'<g transform="translate({x} {y})">{_panel(panel)}</g>')
        top += -(-len(panels) // _COLUMNS) * _HEIGHT + 10
    width = _WIDTH * _COLUMNS
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" role="img">'
        "<style>svg{background:#fff}text{font:11px system-ui,sans-serif;fill:#333}"
        ".title{font-size:17px;font-weight:600}.row{font-size:13px;font-weight:600}"
        ".axis{stroke:#999;fill:none}.grid{stroke:#eee}.curve{stroke:#0b62a4;fill:none;"
        "stroke-width:1.6}.name{font-weight:600}.tick{fill:#777;font-size:10px}</style>"
        f'<title>{escape(title)}</title><text x="12" y="26" class="title">{escape(title)}</text>'
        f"{''.join(body)}</svg>\n"
    )


def _panel(panel: Panel) -> str:
    known = [value for value in panel.y if value is not None]
    top = _nice(max(known, default=1.0))
    first, last = min(panel.x), max(panel.x)
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(x: float, y: float) -> str:
        px = _LEFT + (x - first) / ((last - first) or 1.0) * inner_width
        py = _TOP + (1.0 - y / top) * inner_height
        return f"{px:.1f} {py:.1f}"

    path: list[str] = []
    pen = "M"
    for x, y in zip(panel.x, panel.y, strict=True):
        if y is None:
            pen = "M"
            continue
        path.append(pen + at(x, y))
        pen = "L"
    floor = _HEIGHT - _BOTTOM
    ticks = "".join(
        f'<path class="grid" d="M{at(first, top * part)}L{at(last, top * part)}"/>'
        f'<text class="tick" text-anchor="end" x="{_LEFT - 5}"'
        f' y="{_TOP + (1 - part) * inner_height + 3:.1f}">{_short(top * part)}</text>'
        for part in (0.0, 0.5, 1.0)
    )
    return (
        f'<text class="name" x="{_LEFT}" y="{_TOP - 12}">{escape(panel.title)}'
        f" ({escape(panel.unit)})</text>{ticks}"
        f'<path class="axis" d="M{_LEFT} {_TOP}V{floor}H{_WIDTH - _RIGHT}"/>'
        f'<text class="tick" x="{_LEFT}" y="{floor + 14}">{_short(first)}</text>'
        f'<text class="tick" text-anchor="end" x="{_WIDTH - _RIGHT}" y="{floor + 14}">'
        f"{_short(last)}</text>"
        f'<text class="tick" text-anchor="middle" x="{_LEFT + inner_width / 2}"'
        f' y="{floor + 14}">{escape(panel.x_title)}</text>'
        f'<path class="curve" d="{"".join(path)}"/>'
    )


def _nice(value: float) -> float:
    """Return the next of 1, 2, 5 × a power of ten."""
    if value <= 0.0:
        return 1.0
    power = 1.0
    while power > value:
        power /= 10.0
    while power * 10.0 <= value:
        power *= 10.0
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= value)


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:.3g}"
