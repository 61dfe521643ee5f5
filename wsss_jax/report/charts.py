"""Line charts as SVG text, coloured by the page's style sheet."""

import dataclasses
import math
from collections.abc import Sequence
from html import escape

_MARGIN = {"left": 56, "right": 14, "top": 14, "bottom": 44}  # pixels, room for tick labels and axis names


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """A point to stand out: kind `fixed` (disc), `oracle` (ring) or `chosen` (square)."""

    x: float
    y: float
    kind: str
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart; the style sheet colours it by `colour`, 0..3."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    marks: Sequence[Mark] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axes:
    """Maps values to pixels of an SVG of the given size."""

    width: int
    height: int
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_range: tuple[float, float]

    def x(self, value: float) -> float:
        """Pixel column of a value."""
        low, high = self.x_range
        inner = self.width - _MARGIN["left"] - _MARGIN["right"]
        return _MARGIN["left"] + inner * (value - low) / (high - low)

    def y(self, value: float) -> float:
        """Pixel row of a value."""
        low, high = self.y_ticks[0], self.y_ticks[-1]
        inner = self.height - _MARGIN["top"] - _MARGIN["bottom"]
        return self.height - _MARGIN["bottom"] - inner * (value - low) / (high - low)


def line_chart(
    lines: Sequence[Line],
    *,
    width: int,
    height: int,
    labels: tuple[str, str],
    description: str,
    css_class: str = "",
    cursor: bool = False,
) -> str:
    """An SVG element of lines in one plot.

    Args:
      lines: at least one finite point between them.
      width: pixels.
      height: pixels.
      labels: names of the x and the y axis.
      description: read out instead of the image.
      css_class: added to the element's class `chart`.
      cursor: adds a hidden vertical line and a dot per line, which the page's script places.

    Returns:
      Escaped SVG text; its data- attributes hold the mapping from values to pixels for the script.
    """
    axes = _axes(lines, width, height)
    parts = [_grid(axes, labels)]
    if cursor:
        parts.append(_cursor_line(axes))
    parts += [_line(line, axes) for line in lines]
    if cursor:
        parts += [
            f'<circle class="dot line{line.colour}" data-line="{line.colour}" r="3.5"/>' for line in lines
        ]
    (x0, x1), (y0, y1) = axes.x_range, (axes.y_ticks[0], axes.y_ticks[-1])
    frame = [axes.x(x0), axes.x(x1), axes.y(y0), axes.y(y1)]
    keys = ("x0", "x1", "y0", "y1", "left", "right", "bottom", "top")
    data = " ".join(
        f'data-{key}="{value:.6g}"' for key, value in zip(keys, [x0, x1, y0, y1, *frame], strict=True)
    )
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    text = f'role="img" aria-label="{escape(description)}"'
    return f'<svg class="chart {escape(css_class)}" {size} {text} {data}>{"".join(parts)}</svg>'


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round values (1, 2 or 5 times a power of ten apart) that enclose low..high."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / raw)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _axes(lines: Sequence[Line], width: int, height: int) -> Axes:
    points = [point for line in lines for point in _finite(line)]
    if not points:
        raise ValueError("a chart needs at least one finite point")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(xs), max(xs)
    if low == high:
        low, high = low - 0.5, high + 0.5
    ticks = nice_ticks(low, high, max(3, width // 90))
    return Axes(
        width=width,
        height=height,
        x_ticks=[tick for tick in ticks if low - 1e-9 <= tick <= high + 1e-9],
        y_ticks=nice_ticks(min(ys), max(ys), max(3, height // 55)),
        x_range=(low, high),
    )


def _finite(line: Line) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x) and math.isfinite(y)]


def _grid(axes: Axes, labels: tuple[str, str]) -> str:
    left, right = axes.x(axes.x_range[0]), axes.x(axes.x_range[1])
    bottom = axes.y(axes.y_ticks[0])
    parts = []
    for tick in axes.y_ticks:
        y = axes.y(tick)
        parts.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
        parts.append(f'<text class="tick y" x="{left - 8:.1f}" y="{y + 4:.1f}">{tick:g}</text>')
    for tick in axes.x_ticks:
        x = axes.x(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {bottom:.1f}v5"/>')
        parts.append(f'<text class="tick x" x="{x:.1f}" y="{bottom + 19:.1f}">{tick:g}</text>')
    middle = (left + right) / 2
    parts.append(f'<text class="axis" x="{middle:.1f}" y="{axes.height - 6}">{escape(labels[0])}</text>')
    centre = axes.height / 2 - 14
    parts.append(
        f'<text class="axis" transform="translate(12 {centre:.1f}) rotate(-90)">{escape(labels[1])}</text>'
    )
    return "".join(parts)


def _cursor_line(axes: Axes) -> str:
    top, bottom = axes.y(axes.y_ticks[-1]), axes.y(axes.y_ticks[0])
    return f'<path class="cursor" d="M0 {top:.1f}V{bottom:.1f}"/>'


def _line(line: Line, axes: Axes) -> str:
    """The polylines between missing values, a dot where only one value stands between two, and the marks."""
    runs: list[list[str]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            runs[-1].append(f"{axes.x(x):.1f} {axes.y(y):.1f}")
        else:
            runs.append([])
    path = "".join("M" + "L".join(run) for run in runs if run)
    dots = "".join(_dot(*run[0].split()) for run in runs if len(run) == 1)
    marks = "".join(_mark(mark, axes) for mark in line.marks)
    return f'<g class="line{line.colour}"><path class="curve" d="{path}"/>{dots}{marks}</g>'


def _dot(x: str, y: str) -> str:
    return f'<circle class="lone" cx="{x}" cy="{y}" r="3"/>'


def _mark(mark: Mark, axes: Axes) -> str:
    x, y, title = axes.x(mark.x), axes.y(mark.y), f"<title>{escape(mark.text)}</title>"
    if mark.kind == "fixed":
        return f'<circle class="mark fixed" cx="{x:.1f}" cy="{y:.1f}" r="6.5">{title}</circle>'
    if mark.kind == "chosen":
        return (
            f'<rect class="mark chosen" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10">{title}</rect>'
        )
    return f'<circle class="mark oracle" cx="{x:.1f}" cy="{y:.1f}" r="7">{title}</circle>'
