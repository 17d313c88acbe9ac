"""Line and bar charts as plain SVG: no script, no style sheet, readable on white and in a diff."""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 760, 450
LEFT, RIGHT, TOP, BOTTOM = 84, 20, 44, 114      # margins around the plot
COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#edae49", "#6a4c93", "#444444", "#8d6a9f", "#2e4057")
Series = dict[str, list[float | None]]


def nice_ticks(top: float) -> list[float]:
    """Round numbers from 0 to at least `top`, four to eight of them."""
    scale = 10.0 ** math.floor(math.log10(top)) if top > 0 else 1.0
    step = next(scale * part for part in (0.2, 0.5, 1, 2) if top / (scale * part) <= 8)
    return [step * i for i in range(math.ceil(top / step) + 1)]


def decades(low: float, top: float) -> list[float]:
    """Powers of ten that enclose low .. top."""
    return [10.0 ** e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(top)) + 1)]


def short(value: float) -> str:
    """An axis label: 1500000 -> 1.5M."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{suffix}"
    return f"{value:g}"


class Chart:
    """A frame with a value axis, category labels and a legend; `lines` or `bars` fill it."""

    def __init__(self, title: str, x_title: str, y_title: str, labels: Sequence[str], series: Series, *,
                 logarithmic: bool = False) -> None:
        values = [v for points in series.values() for v in points if v is not None and v == v]
        self.series, self.labels, self.logarithmic = series, labels, logarithmic
        if logarithmic:
            self.ticks = decades(min(v for v in values if v > 0), max(values))
        else:
            self.ticks = nice_ticks(max(values))
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
                      f'height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="#222">',
                      f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
        self.text(WIDTH / 2, 22, title, size=15)
        self.text(WIDTH / 2, HEIGHT - BOTTOM + 38, x_title)
        self.parts.append(f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" '
                          f'text-anchor="middle">{escape(y_title)}</text>')
        for tick in self.ticks:
            y = self.y(tick)
            self.parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
            self.text(LEFT - 6, y + 4, short(tick), anchor="end")
        for i, label in enumerate(labels):
            self.text(self.x(i), HEIGHT - BOTTOM + 18, label)
        self.legend()

    def x(self, index: float) -> float:
        """Centre of a category."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (index + 0.5) / len(self.labels)

    def y(self, value: float) -> float:
        low, top = self.ticks[0], self.ticks[-1]
        share = (math.log10(max(value, low) / low) / math.log10(top / low) if self.logarithmic and top > low
                 else (value - low) / (top - low))
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def text(self, x: float, y: float, content: str, *, anchor: str = "middle", size: int = 12) -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
                          f'{escape(content)}</text>')

    def legend(self) -> None:
        x, y = float(LEFT), HEIGHT - BOTTOM + 52
        for i, name in enumerate(self.series):
            width = 32 + 6.0 * len(name)
            if x + width > WIDTH and x > LEFT:
                x, y = float(LEFT), y + 17
            self.parts.append(f'<rect x="{x:.0f}" y="{y}" width="12" height="12" fill="{COLOURS[i % len(COLOURS)]}"/>')
            self.text(x + 17, y + 10, name, anchor="start", size=11)
            x += width

    def lines(self) -> "Chart":
        for i, points in enumerate(self.series.values()):
            colour = COLOURS[i % len(COLOURS)]
            at = [(self.x(k), self.y(v)) for k, v in enumerate(points) if v is not None and v == v]
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
            self.parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]
        return self

    def bars(self) -> "Chart":
        width = (WIDTH - LEFT - RIGHT) / len(self.labels) / (len(self.series) + 1)
        for i, points in enumerate(self.series.values()):
            for k, value in enumerate(points):
                if value is None or value != value:
                    continue
                x, y = self.x(k) + (i - len(self.series) / 2) * width, self.y(value)
                self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width * 0.9:.1f}" '
                                  f'height="{HEIGHT - BOTTOM - y:.1f}" fill="{COLOURS[i % len(COLOURS)]}"/>')
        return self

    def render(self) -> str:
        return "\n".join([*self.parts, "</svg>", ""])
