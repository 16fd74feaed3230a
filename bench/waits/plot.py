"""The plot: a panel for each scenario, a bar for each contender; an SVG, written as text, that needs no library to draw.

Each panel has a scale of its own from zero, since a bar is to be compared with its neighbours only.
"""

from collections.abc import Sequence
from html import escape

from bench.waits.contenders import CONTENDERS
from bench.waits.figure import SCENARIOS, Figure, Median, medians

COLUMNS = 2
PANEL_WIDTH, GAP, MARGIN, TITLE, BAR, BAR_GAP = 470, 30, 20, 44, 20, 6
NAME_WIDTH, VALUE_WIDTH = 150, 120
COLOURS = {
    "odradek": "#1f6feb", "odradek-idempotent": "#0a3069", "embedded": "#58a6ff",
    "restate": "#8957e5", "dbos": "#d29922", "streams": "#6e7781",
}  # fmt: skip
STYLE = (
    "text{font-family:Helvetica,Arial,sans-serif;font-size:12px;fill:#24292f}"
    ".title{font-weight:bold;font-size:13px}.hint{fill:#57606a;font-size:11px}"
)


def plot(figures: Sequence[Figure]) -> str:
    """The medians as an SVG document."""
    found = medians(figures)
    groups = [
        [found[name, contender] for contender in CONTENDERS if (name, contender) in found]
        for name in SCENARIOS
        if any(scenario == name for scenario, _ in found)
    ]
    parts: list[str] = []
    top = MARGIN
    for start in range(0, len(groups), COLUMNS):
        row = groups[start : start + COLUMNS]
        for column, group in enumerate(row):
            parts.append(_panel(group, MARGIN + column * (PANEL_WIDTH + GAP), top))
        top += TITLE + max(len(group) for group in row) * (BAR + BAR_GAP) + GAP // 2
    top += MARGIN - GAP // 2
    width = 2 * MARGIN + COLUMNS * PANEL_WIDTH + (COLUMNS - 1) * GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}" role="img" '
        f'aria-label="Medians of each scenario and contender"><style>{STYLE}</style>'
        f'<rect width="{width}" height="{top}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _panel(group: list[Median], left: int, top: int) -> str:
    scenario = SCENARIOS[group[0].scenario]
    hint = "a second, longer is better" if scenario.main == "per_s" else "p50 in ms, shorter is better"
    parts = [
        f'<text class="title" x="{left}" y="{top + 14}">{escape(scenario.title)}</text>',
        f'<text class="hint" x="{left}" y="{top + 30}">{hint}</text>',
    ]
    largest = max(median.main for median in group) or 1
    for number, median in enumerate(group):
        y = top + TITLE - 4 + number * (BAR + BAR_GAP)
        length = max(median.main / largest * (PANEL_WIDTH - NAME_WIDTH - VALUE_WIDTH), 1)
        parts += [
            f'<text x="{left}" y="{y + 14}">{escape(CONTENDERS[median.contender].title)}</text>',
            f'<rect x="{left + NAME_WIDTH}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{COLOURS[median.contender]}"/>',
            f'<text x="{left + NAME_WIDTH + length + 6:.1f}" y="{y + 14}">{_value(median)}</text>',
        ]
    return "".join(parts)


def _value(median: Median) -> str:
    if SCENARIOS[median.scenario].main == "per_s":
        return f"{median.main:,.0f}"
    return f"{median.main:,.1f}" + (f" (p99 {median.p99_ms:,.1f})" if median.p99_ms is not None else "")
