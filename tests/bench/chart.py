"""Draw what was measured: each target as a bar against its bound, and the time for one job against the length of the queue.

    .venv/bin/python -m tests.bench --json > measured.json
    .venv/bin/python -m tests.bench.chart measured.json docs/images/performance.svg

Reads one or more of those files, the later ones first in each row's stead. Writes SVG, which needs nothing to be installed.
"""

from __future__ import annotations

import html
import json
import math
import re
import sys
from pathlib import Path

WIDTH, BAR, LABEL, LEFT = 960, 22, 400, 440
GROWTH = re.compile(r"one job with (\d+) waiting")
GOOD, POOR, INK = "#2f7d4f", "#b5542b", "#222222"
# A bar ends here however far beyond its bound the value is; the number beside it says how far.
MOST = 4.0


def main() -> None:
    """Draw."""
    *sources, target = sys.argv[1:]
    rows = {row["what"]: row for source in sources for row in json.loads(Path(source).read_text())["rows"]}
    bounded = [row for row in rows.values() if row["target"] is not None]
    growth = sorted((int(found[1]), row["value"]) for row in rows.values() if (found := GROWTH.match(row["what"])))
    bars, height = _bars(bounded)
    curve, height = _curve(growth, height)
    style = f'font-family="sans-serif" font-size="12" fill="{INK}"'
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', '<rect width="100%" height="100%" fill="white"/>']
    Path(target).write_text("\n".join([*parts, *bars, *curve, "</svg>"]) + "\n")


def _bars(rows: list[dict]) -> tuple[list[str], int]:
    """A bar is as long as the value is large against its bound; the line is the bound."""
    unit = (WIDTH - LEFT - 150) / MOST
    found = [_text(LEFT + unit, 18, "the bound", anchor="middle")]
    for number, row in enumerate(rows):
        top = 28 + number * BAR
        share = row["value"] / row["target"]
        colour = GOOD if row["met"] else POOR
        length = max(1.0, min(share, MOST) * unit)
        found += [
            _text(LEFT - 10, top + 14, row["what"], anchor="end"),
            f'<rect x="{LEFT}" y="{top + 3}" width="{length:.0f}" height="{BAR - 8}" fill="{colour}"/>',
            _text(LEFT + length + 8, top + 14, f"{row['value']:.3g} {row['unit']} ({_bound(row)})"),
        ]
    bottom = 28 + len(rows) * BAR
    line = (
        f'<line x1="{LEFT + unit:.0f}" y1="24" x2="{LEFT + unit:.0f}" y2="{bottom}" stroke="{INK}" stroke-dasharray="3 3"/>'
    )
    return [*found, line], bottom + 20


def _bound(row: dict) -> str:
    return f"{'at least' if row['at_least'] else 'at most'} {row['target']:g}"


def _curve(points: list[tuple[int, float]], top: int) -> tuple[list[str], int]:
    """Both axes begin where they should: the length by its logarithm, the time at zero."""
    if not points:
        return [], top
    height, most = 200, 1.25 * max(value for _, value in points)
    low, high = (math.log10(points[at][0]) for at in (0, -1))
    places = [
        (
            LABEL + (WIDTH - LABEL - 120) * (math.log10(length) - low) / max(high - low, 1),
            top + 30 + height * (1 - value / most),
        )
        for length, value in points
    ]
    base = top + 30 + height
    found = [_text(LABEL, top + 14, "ms for one job, against the number that wait")]
    found.append(f'<line x1="{LABEL}" y1="{base}" x2="{WIDTH - 80}" y2="{base}" stroke="{INK}"/>')
    track = " ".join(f"{x:.0f},{y:.0f}" for x, y in places)
    found.append(f'<polyline points="{track}" fill="none" stroke="{GOOD}" stroke-width="2"/>')
    for (x, y), (length, value) in zip(places, points, strict=True):
        found += [
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{GOOD}"/>',
            _text(x, y - 8, f"{value:.2f}", anchor="middle"),
            _text(x, base + 16, f"{length:,}", anchor="middle"),
        ]
    return found, base + 30


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{html.escape(words)}</text>'


if __name__ == "__main__":
    main()
