"""The parts of the page above the gallery: run, headline scores, IoU per class, curves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from wsss_jax.data.images import voc_palette
from wsss_jax.evaluation import trained_on
from wsss_jax.report.charts import Line, Mark, line_chart
from wsss_jax.report.contents import ReportData, Result, Series

# Each chart is drawn for a laptop, a tablet and a phone, so that its text keeps its size; the style sheet
# shows the one that fits.
_SIZES = (("wide", 1120, 380), ("medium", 680, 340), ("narrow", 340, 300))
_HALVES = (("wide", 540, 290), *_SIZES[1:])  # of losses where there are several
_SMALL = (340, 220)  # of the plots of a loss's terms, which fit a phone
_ABSENT_CLASSES = {
    "zero": "count as IoU 0",
    "ignore": "left out of the mean",
    "truth": "left out of the mean if absent from the truth",
}
_LONG, _LONG_FROM = ' class="long"', 60  # characters from which a text of the summary has a row for itself
_MAX_POINTS = 400  # per training curve; more cannot be told apart on a screen


def summary_list(summary: Mapping[str, str]) -> str:
    """The run's labels and texts as a definition list."""
    return "".join(
        f"<div{_LONG * (len(text) > _LONG_FROM)}><dt>{escape(key)}</dt><dd>{escape(text)}</dd></div>"
        for key, text in summary.items()
    )


def headline_card(index: int, result: Result) -> str:
    """One result's scores, each with its threshold, and what was scored how."""
    metrics = result.metrics
    fixed = metrics["fixed"]
    rule = (
        ""
        if fixed["threshold"] is None
        else f"at {escape(result.threshold)} {fixed['threshold']:g}, fixed beforehand"
    )
    others = [
        _secondary_score(metrics[kind], text)
        for kind, text in (
            ("chosen", f"chosen on {escape(str((metrics['chosen'] or {}).get('split', '')))}"),
            ("oracle", "oracle: the best on this split itself"),
        )
        if metrics[kind] is not None
    ]
    rows = "".join(f"<div><dt>{key}</dt><dd>{escape(text)}</dd></div>" for key, text in _conditions(metrics))
    conditions = (
        f'<details class="conditions" open><summary>What was scored</summary><dl>{rows}</dl></details>'
    )
    return (
        f'<article class="headline line{index}"><h3><i class="key line{index}"></i>{escape(result.name)}</h3>'
        f'<p class="big">{fixed["miou"]:.2f}<small>mIoU %</small></p><p class="rule">{rule}</p>'
        f"{''.join(others)}{conditions}</article>"
    )


def _secondary_score(point: Mapping[str, Any], text: str) -> str:
    return f'<p class="other"><b>{point["miou"]:.2f}</b> at {point["threshold"]:g} ({text})</p>'


def _conditions(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What every score must say about itself, as pairs of label and text."""
    crf = metrics["crf"]
    flip = {None: "not stated", True: "yes", False: "no"}[metrics["flip"]]
    scales = metrics["scales"]
    conditions = [
        ("Stage", f"{metrics['stage']}, method {metrics['method']}"),
        ("Split", f"{metrics['split']} of {metrics['dataset']}"),
        ("Images", f"{metrics['images']:,}"),
        ("Scales", "not stated" if not scales else ", ".join(f"{scale:g}" for scale in scales)),
        ("Flipped too", flip),
        ("CRF", "no" if not crf else ("yes" if crf is True else str(crf))),
        ("Classes from", str(metrics["class_filter"] or "not stated")),
        ("Absent classes", _ABSENT_CLASSES[metrics["absent_classes"]]),
        ("List", (metrics["list_sha256"] or "not stated")[:12]),
        ("Weights", (metrics["weights_sha256"] or "not stated")[:12]),
    ]
    wrong = metrics["fixed"].get("wrong_foreground")  # not in metrics of older versions
    if wrong is not None:
        conditions.append(("Background in the foreground", f"{wrong:.1f} %"))
    return [*conditions, *((f"{name} trained on", images) for name, images in trained_on(metrics).items())]


def class_rows(report: ReportData) -> str:
    """IoU of every class at the fixed thresholds, one bar per result."""
    rows = []
    for label, name in enumerate(["background", *report.classes]):
        bars = "".join(
            _bar(index, result.name, result.metrics["fixed"]["iou"][label])
            for index, result in enumerate(report.results)
        )
        title = f'<span class="class-name">{swatch(label)}{escape(name)}</span>'
        rows.append(f'<li>{title}<span class="bars">{bars}</span></li>')
    return "".join(rows)


def _bar(index: int, name: str, iou: float | None) -> str:
    hidden = f'<span class="hidden">{escape(name)}: </span>'
    if iou is None:
        return f'<span class="bar"><span class="track"></span><b>{hidden}–</b></span>'
    return (
        f'<span class="bar"><span class="track"><i class="line{index}" style="width:{iou:.2f}%"></i></span>'
        f"<b>{hidden}{iou:.1f}</b></span>"
    )


def swatch(label: int) -> str:
    """A small square in a label's VOC colour."""
    red, green, blue = voc_palette()[label]
    return f'<i class="swatch" style="background:#{red:02x}{green:02x}{blue:02x}"></i>'


def legend(names: Iterable[str]) -> str:
    """List items of names with their colours."""
    return "".join(_legend_item(i, name) for i, name in enumerate(names))


def _legend_item(colour: int, name: str) -> str:
    return f'<li><i class="key line{colour}"></i>{escape(name)}</li>'


def curve_legend(results: Sequence[Result]) -> str:
    """Names of the results and the signs of the points marked on their curves."""
    signs = [("fixed", "fixed"), ("oracle", "oracle")]
    if any(result.has_curve and result.metrics["chosen"] for result in results):
        signs.append(("chosen", "chosen on another split"))
    items = "".join(f'<li><i class="sign {kind}"></i>{text}</li>' for kind, text in signs)
    return "".join(_legend_item(i, r.name) for i, r in enumerate(results) if r.has_curve) + items


def readouts(results: Sequence[Result]) -> str:
    """Places where the script writes every result's mIoU at the slider's threshold."""
    items = [
        f'<li data-line="{i}"><i class="key line{i}"></i>{escape(result.name)} '
        '<output for="threshold">–</output></li>'
        for i, result in enumerate(results)
        if result.has_curve
    ]
    return "".join(["<li>mIoU %</li>", *items]) if items else ""


def threshold_charts(results: Sequence[Result]) -> str:
    """mIoU against the background score for all results that have a curve; empty if none has."""
    lines = [
        Line(
            name=result.name,
            x=result.metrics["thresholds"],
            y=result.metrics["miou_curve"],
            colour=index,
            marks=_marks(result),
        )
        for index, result in enumerate(results)
        if result.has_curve
    ]
    if not lines:
        return ""
    description = "mIoU in percent against the background score. " + " ".join(
        f"{line.name}: {'; '.join(mark.text for mark in line.marks)}." for line in lines
    )
    labels = ("background score (threshold)", "mIoU %")
    return "".join(
        line_chart(
            lines,
            width=width,
            height=height,
            labels=labels,
            description=description,
            css_class=f"{name} sweep",
            cursor=True,
        )
        for name, width, height in _SIZES
    )


def _marks(result: Result) -> list[Mark]:
    points = [(kind, result.metrics[kind]) for kind in ("oracle", "chosen", "fixed")]
    return [
        Mark(
            x=point["threshold"],
            y=point["miou"],
            kind=kind,
            text=f"{result.name}, {kind}: {point['miou']:.2f} at {point['threshold']:g}",
        )
        for kind, point in points
        if point is not None
    ]


def training_charts(series: Sequence[Series]) -> str:
    """List items with a plot for each training curve; empty without a finite value."""
    drawn = [entry for entry in series if any(map(math.isfinite, entry.y))]
    sizes = _SIZES if len(drawn) == 1 else _HALVES
    return "".join(_loss_chart(entry, sizes) for entry in drawn)


def _loss_chart(series: Series, sizes: Sequence[tuple[str, int, int]]) -> str:
    stride = _stride(series)
    line = Line(name=series.name, x=series.x[::stride], y=series.y[::stride], colour=0)
    text = f"Training: {series.name} from {series.y[0]:.4g} to {series.y[-1]:.4g} in {len(series.y)} values"
    charts = "".join(
        line_chart(
            [line], width=width, height=height, labels=("step", "loss"), description=text, css_class=name
        )
        for name, width, height in sizes
    )
    return f'<li class="plot"><h3>{escape(series.name)}</h3>{charts}</li>'


def term_chart(term: Series) -> str:
    """A list item with the curve of one term of the loss; empty without a finite value."""
    stride = _stride(term)
    line = Line(name=term.name, x=term.x[::stride], y=term.y[::stride], colour=0)
    if not any(math.isfinite(value) for value in line.y):
        return ""
    width, height = _SMALL
    text = f"{term.name} from {term.y[0]:.4g} to {term.y[-1]:.4g} in {len(term.y)} values"
    chart = line_chart([line], width=width, height=height, labels=("step", ""), description=text)
    return f'<li class="plot"><h4>{escape(term.name)}</h4>{chart}</li>'


def _stride(series: Series) -> int:
    return max(1, -(-len(series.y) // _MAX_POINTS))
