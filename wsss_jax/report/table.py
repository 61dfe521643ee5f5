"""The table of every scored stage."""

from collections.abc import Mapping
from html import escape
from typing import Any

from wsss_jax.report.contents import Result


def stage_row(stage: Result) -> str:
    """A row: name and what was scored, mIoU with the threshold and how it was chosen, the oracle, images."""
    metrics = stage.metrics
    points = [metrics["fixed"], *([metrics["chosen"]] if metrics["chosen"] else [])]
    where = f"{metrics['stage']}, {metrics['split']}"
    cells = [
        "<br>".join(f"<b>{point['miou']:.2f}</b>" for point in points),
        "<br>".join(_threshold(point, stage.threshold) for point in points),
        _oracle(metrics["oracle"]),
        f"{metrics['images']:,}",
    ]
    name = f'<th scope="row">{escape(stage.name)}<small>{escape(where)}</small></th>'
    return f"<tr>{name}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _threshold(point: Mapping[str, Any], kind: str) -> str:
    """The threshold and how it was chosen; only points chosen elsewhere name a split."""
    if point["threshold"] is None:
        return "none"
    rule = f"chosen on {point['split']}" if "split" in point else "fixed"
    return f"{escape(kind)} {point['threshold']:g}, {escape(rule)}"


def _oracle(point: Mapping[str, Any] | None) -> str:
    return "–" if point is None else f"{point['miou']:.2f} at {point['threshold']:g}"
