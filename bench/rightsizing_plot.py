"""A frontier as a small SVG, without any library. Curves also differ by dash and mark, not by colour alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 520, 76, 210, 44, 60
COLOURS = ("#3f51b5", "#b26a00", "#6b7280", "#0f766e")
TITLE = "Requested core-hours against being short: each day by the days before it, down once a week"
DASHES = ("", "7 4", "2 4", "10 3 2 3")


@dataclass(frozen=True, slots=True)
class Curve:
    """A family of rules: (per cent short, core-hours, its setting)."""

    name: str
    points: Sequence[tuple[float, float, str]]


def draw(path: Path, curves: Sequence[Curve], marks: Mapping[str, tuple[float, float]]) -> None:
    """Write the picture."""
    points = [p[:2] for curve in curves for p in curve.points] + list(marks.values())
    right = min(16.0, 1.05 * max(x for x, _ in points))
    low, high = 0.95 * min(y for _, y in points), 1.03 * max(y for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * min(x, right) / right
        return round(across, 1), round(TOP + (HEIGHT - TOP - BOTTOM) * (high - y) / (high - low), 1)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="16" y="24" font-size="15" font-weight="bold">{TITLE}</text>',
    ]
    out += _axes(right, low, high, place)
    for number, curve in enumerate(curves):
        colour, dash = COLOURS[number % 4], DASHES[number % 4]
        spots = [place(x, y) for x, y, _ in sorted(curve.points)]
        line = " ".join(f"{x},{y}" for x, y in spots)
        out.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        )
        for x, y, tag in curve.points:
            across, down = place(x, y)
            out.append(f'<circle cx="{across}" cy="{down}" r="3" fill="{colour}"><title>{escape(tag)}</title></circle>')
        row = TOP + 14 + 20 * number
        start = WIDTH - RIGHT + 14
        out.append(
            f'<line x1="{start}" y1="{row - 4}" x2="{start + 30}" y2="{row - 4}" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/><text x="{start + 38}" y="{row}">{escape(curve.name)}</text>'
        )
    for name, (x, y) in marks.items():
        across, down = place(x, y)
        out.append(f'<path d="M{across - 6} {down}h12M{across} {down - 6}v12" stroke="#111" stroke-width="2.5"/>')
        out.append(f'<text x="{across + 9}" y="{down - 7}" font-weight="bold">{escape(name)}</text>')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*out, "</svg>\n"]), encoding="utf-8")


def _axes(right: float, low: float, high: float, place: Callable[[float, float], tuple[float, float]]) -> list[str]:
    out = []
    for x in range(0, int(right) + 1, 2):
        across, _ = place(x, low)
        out.append(f'<line x1="{across}" y1="{TOP}" x2="{across}" y2="{HEIGHT - BOTTOM}" stroke="#e5e7eb"/>')
        out.append(f'<text x="{across}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x} %</text>')
    step = 1000 if high - low < 9000 else 2000
    for y in range(int(low // step + 1) * step, int(high) + 1, step):
        _, down = place(0, y)
        out.append(f'<line x1="{LEFT}" y1="{down}" x2="{WIDTH - RIGHT}" y2="{down}" stroke="#e5e7eb"/>')
        out.append(f'<text x="{LEFT - 8}" y="{down + 4}" text-anchor="end">{y:,}</text>')
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    out.append(
        f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">samples above the request, mean over days and machines</text>'
    )
    out.append(f'<text x="{LEFT}" y="{TOP - 6}" text-anchor="start" fill="#374151">core-hours</text>')
    return out
