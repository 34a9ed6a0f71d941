"""The picture of a benchmark: every call as a dot, with its percentiles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rwkv_edge.bench.stages import TOTAL
from rwkv_edge.bench.timing import summarise
from rwkv_edge.config import RESEARCH_USE
from rwkv_edge.errors import MissingDependencyError
from rwkv_edge.files import atomic_path

# Okabe and Ito's palette
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_PANELS = {"inference": "inference", TOTAL: "whole frame, capture to overlay"}
_ROW_INCHES, _LEAST_INCHES = 0.62, 2.6


def draw_latency(path: Path, record: Mapping[str, Any]) -> None:
    """Draw the distribution of latency, one row a candidate, as a PNG.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "bench", "the latency picture") from error
    candidates: Mapping[str, Any] = record["candidates"]
    height = max(_LEAST_INCHES, 1.5 + _ROW_INCHES * len(candidates))
    figure = Figure(figsize=(11, height), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, (stage, title) in zip(panels, _PANELS.items(), strict=True):
        for row, candidate in enumerate(candidates.values()):
            _draw_row(axes, row, stage, np.asarray(candidate["samples_ms"][stage]))
        axes.set(title=title, xlabel="milliseconds a call", ylim=(len(candidates) - 0.45, -0.6))
        axes.set_xlim(left=0)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(candidates)), list(candidates))
    figure.text(
        0.005,
        -0.01,
        f"dots: calls; bar: p10 to p90; line: median; triangle: p99.  {record['title']}; "
        f"{RESEARCH_USE}",
        fontsize=7.5,
        color="0.35",
        va="top",
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, bbox_inches="tight")


def _draw_row(axes: Any, row: int, stage: str, values: Any) -> None:
    colour = _COLOURS[row % len(_COLOURS)]
    scatter = np.random.default_rng(row).uniform(0.05, 0.3, len(values))
    axes.plot(values, row + scatter, ".", color=colour, alpha=0.35, markersize=3, zorder=2)
    ranks = summarise({stage: values / 1e3})[stage]
    p10, p50, p90, p99 = (ranks[f"p{rank}_ms"] for rank in (10, 50, 90, 99))
    axes.barh(row - 0.12, p90 - p10, left=p10, height=0.2, color=colour, alpha=0.35, zorder=1)
    axes.plot([p50, p50], [row - 0.22, row - 0.02], color=colour, linewidth=2.2, zorder=3)
    axes.plot(p99, row - 0.12, "v", color=colour, markersize=5, zorder=3)
    axes.annotate(
        f"{p50:.1f} ms",
        (p50, row - 0.22),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=colour,
    )
