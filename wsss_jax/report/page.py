"""Assembles the report: one HTML file that needs nothing but itself."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from wsss_jax.data.images import voc_palette
from wsss_jax.files import write_bytes
from wsss_jax.report import figures, gallery, sections
from wsss_jax.report.contents import ReportData, Result
from wsss_jax.report.table import stage_row

_DEFAULT_THRESHOLDS = tuple(i / 100 for i in range(100))  # the slider's, where no result has a curve
_DEFAULT_START = 0.2
_SLIDER_NOTE = (
    "Label maps of CAMs follow the slider; they are drawn from shrunken scores quantised to steps of 1/255, "
    "so single pixels may differ from the scored maps."
)


def write_report(path: str | Path, report: ReportData) -> None:
    """Writes the report as one self-contained HTML file, whole or not at all.

    The file works from any place, without network and from file://; its Content-Security-Policy lets only its
    own script run. Names and texts of `report` appear escaped.

    Args:
      path: of the HTML file; missing folders are made.
      report: what to show.

    Raises:
      RunError: the file cannot be written; an older one stays as it was.
    """
    content = render(report).encode("utf-8")
    write_bytes(path, content)


def render(report: ReportData) -> str:
    """The text of the HTML file."""
    script = _package_text("page.js")
    return Template(_package_text("page.html")).substitute(
        title=escape(report.title),
        style=_package_text("page.css"),
        script=script,
        script_hash=_csp_hash(script),
        data=_script_json(page_data(report.results)),
        summary=sections.summary_list(report.summary),
        warnings="".join(f'<p class="warning">{escape(text)}</p>' for text in report.warnings),
        headlines="".join(sections.headline_card(i, result) for i, result in enumerate(report.results)),
        legend=sections.legend(result.name for result in report.results),
        stages=_stages_section(report),
        class_caption=_class_caption(report.results),
        class_rows=sections.class_rows(report),
        training=_training_section(report),
        explore=_explore_section(report),
        figures=_figures_section(report),
    )


def page_data(results: Sequence[Result]) -> dict[str, Any]:
    """What the script needs: the slider's thresholds and start, every result's curve on them, the palette.

    A curve holds None where its result was not scored at a threshold of the others.
    """
    swept = [result.metrics for result in results if result.has_curve]
    grid = sorted({t for metrics in swept for t in metrics["thresholds"]}) or list(_DEFAULT_THRESHOLDS)
    start = swept[0]["fixed"]["threshold"] if swept else _DEFAULT_START
    return {
        "thresholds": grid,
        "start": min(range(len(grid)), key=lambda i: abs(grid[i] - start)),
        "curves": [_curve_on(grid, result.metrics) for result in results],
        "palette": voc_palette().tobytes().hex(),
    }


def _curve_on(grid: Sequence[float], metrics: Mapping[str, Any]) -> list[float | None]:
    curve = dict(zip(metrics["thresholds"], metrics["miou_curve"], strict=True))
    return [round(curve[t], 4) if t in curve else None for t in grid]


def _class_caption(results: Sequence[Result]) -> str:
    points = [(result.name, result.metrics["fixed"]["threshold"]) for result in results]
    return ", ".join(
        f"{escape(name)} {'(label maps)' if t is None else f'at the fixed threshold {t:g}'}"
        for name, t in points
    )


def _stages_section(report: ReportData) -> str:
    rows = "".join(stage_row(stage) for stage in report.stages)
    return _part("stages", rows=rows) if rows else ""


def _training_section(report: ReportData) -> str:
    charts = sections.training_charts(report.training)
    if not charts:
        return ""
    small = "".join(sections.term_chart(term) for term in report.terms)
    terms = _part("terms", charts=small) if small else ""
    return _part("training", charts=charts, terms=terms)


def _explore_section(report: ReportData) -> str:
    """Curve, slider and gallery; empty where there is neither a curve nor a gallery."""
    charts = sections.threshold_charts(report.results)
    if not charts and not report.gallery:
        return ""
    curve = _part("curve", charts=charts, legend=sections.curve_legend(report.results)) if charts else ""
    has_cams = any(item.cams for item in report.gallery)
    controls = _part("controls", readouts=sections.readouts(report.results)) if charts or has_cams else ""
    return _part(
        "explore",
        curve=curve,
        controls=controls,
        gallery=_gallery_part(report, _SLIDER_NOTE if has_cams else ""),
    )


def _gallery_part(report: ReportData, slider_note: str) -> str:
    if not report.gallery:
        return ""
    names = ["background", *report.classes]
    colours = "".join(
        f"<li>{sections.swatch(label)}{escape(names[label])}</li>" for label in gallery.shown_labels(report)
    )
    options = "".join(
        f'<option value="{i}"{" selected" * (result.name == report.sorted_by)}>{escape(result.name)}</option>'
        for i, result in enumerate(report.results)
        if any(result.name in (*item.cams, *item.labels) for item in report.gallery)
    )
    return _part(
        "gallery",
        note=escape(report.gallery_note),
        slider_note=slider_note,
        colours=colours + f"<li>{sections.swatch(255)}void (not scored)</li>",
        options=options,
        cards="".join(gallery.gallery_cards(report)),
    )


def _figures_section(report: ReportData) -> str:
    cards = "".join(figures.figure_card(content) for content in report.figures)
    return _part("figures", figures=cards) if cards else ""


def _part(name: str, **values: str) -> str:
    """A part of parts.html, filled in; each starts with the comment `<!-- part: NAME -->`."""
    text = _package_text("parts.html").partition(f"<!-- part: {name} -->")[2].partition("<!-- part: ")[0]
    return Template(text.strip()).substitute(values)


def _package_text(name: str) -> str:
    return resources.files("wsss_jax.report").joinpath(name).read_text("utf-8")


def _csp_hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
