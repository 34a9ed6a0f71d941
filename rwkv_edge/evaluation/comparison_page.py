"""The A/B report: one HTML file without outside resources, readable on a phone."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

from rwkv_edge.config import RESEARCH_USE
from rwkv_edge.data.pairs import read_pair
from rwkv_edge.drawing import TRUTH_COLOUR, draw_contour, draw_mask, line_width
from rwkv_edge.evaluation.compare import METRICS, Comparison, Difference, Latency
from rwkv_edge.evaluation.evaluate import ImageScore
from rwkv_edge.evaluation.regions import MIN_OVERLAP, SIZES
from rwkv_edge.preprocess import UInt8Array

Labels = Callable[[UInt8Array], UInt8Array]
"""From (h, w, 3) uint8 BGR to (h, w) class labels."""
SHOWN_IMAGES = 6
_PICTURE_SIDE, _JPEG_QUALITY = 420, 82
_COLOURS = {"A": "#0072B2", "B": "#D55E00"}

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #777; --a: #0072B2; --b: #D55E00; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .2rem 0 .4rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
.dim { color: var(--dim); font-size: .88rem; } .a { color: var(--a); } .b { color: var(--b); }
.use { border: 1px solid var(--line); border-radius: .4rem; padding: .3rem .7rem; }
.cards { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.card { border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
.card h3 { margin: 0; font-size: 1rem; } .pair { display: flex; gap: 1.4rem; margin: .3rem 0; }
.pair b { font-size: 1.5rem; font-variant-numeric: tabular-nums; display: block; }
.tag { float: right; font-size: .8rem; border-radius: 1rem; padding: 0 .6rem; color: #fff; }
.card p { margin: .4rem 0 0; font-size: .92rem; } .card { min-width: 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
td { font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 0 0 1.2rem; max-width: 44rem; }
figure div { display: grid; grid-template-columns: 1fr 1fr; gap: .3rem; }
figure img { width: 100%; display: block; border-radius: .3rem; }
figcaption { font-size: .9rem; overflow-wrap: anywhere; margin-bottom: .2rem; }
svg { width: 100%; max-width: 30rem; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
"""


@dataclass(frozen=True)
class Contestant:
    """What the page says about a model."""

    name: str
    backend: str
    input_size: tuple[int, int]
    median_ms: float
    p90_ms: float
    labels: Labels


def comparison_page(
    comparison: Comparison, sides: tuple[Contestant, Contestant], latency: Latency, data: str
) -> str:
    """Return the page as HTML.

    Args:
        comparison: what was found.
        sides: the models, A and B.
        latency: how they compare in time.
        data: which images, in words.
    """
    a, b = sides
    cards = [_card(difference) for difference in comparison.differences.values()]
    cards.append(_latency_card(a, b, latency))
    images = len(comparison.a.scores)
    parts = [
        f"<h1>{_span('A')} {escape(a.name)} against {_span('B')} {escape(b.name)}</h1>",
        f'<p class="use">{escape(RESEARCH_USE.capitalize())}.</p>',
        f'<p class="dim">{images} images: {escape(data)}. Both models got the same images.</p>',
        f'<div class="cards">{"".join(cards)}</div>',
        "<h2>Image by image</h2>",
        _scatter(comparison),
        "<h2>Who wins on which lesion size</h2>",
        _size_table(comparison),
        "<h2>Where they differ most</h2>",
        '<p class="dim">Prediction in colour, truth outlined in white.</p>',
        *(
            _figure(pair, a, b, len(comparison.a.names))
            for pair in comparison.most_different(SHOWN_IMAGES)
        ),
        "<h2>How this was measured</h2>",
        _method(a, b, latency),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(a.name)} against {escape(b.name)}</title><style>{_STYLE}</style></head>"
        f"<body>{chr(10).join(parts)}</body></html>\n"
    )


def _span(side: str) -> str:
    return f'<span class="{side.lower()}">{side}</span>'


def _tag(winner: str) -> str:
    colour = _COLOURS.get(winner, "#777")
    words = f"{winner} wins" if winner in _COLOURS else winner
    return f'<span class="tag" style="background:{colour}">{words}</span>'


def _card(found: Difference) -> str:
    metric = found.metric
    direction = "higher is better" if metric.higher_is_better else "lower is better"
    return _boxed(
        metric.title[0].upper() + metric.title[1:],
        f"{metric.unit}, {direction}",
        found.winner,
        [(f"{i.value:.4f}", f"{i.low:.4f} to {i.high:.4f}") for i in (found.a, found.b)],
        found.verdict,
    )


def _latency_card(a: Contestant, b: Contestant, latency: Latency) -> str:
    values = [(f"{side.median_ms:.1f} ms", f"p90 {side.p90_ms:.1f} ms") for side in (a, b)]
    return _boxed(
        "Latency", "median of a frame, lower is better", latency.winner, values, latency.verdict
    )


def _boxed(
    title: str, hint: str, winner: str, values: Sequence[tuple[str, str]], verdict: str
) -> str:
    pair = "".join(
        f'<div>{_span(side)}<b>{value}</b><span class="dim">{spread}</span></div>'
        for side, (value, spread) in zip("AB", values, strict=True)
    )
    return (
        f'<div class="card">{_tag(winner)}<h3>{escape(title)}</h3><span class="dim">{hint}</span>'
        f'<div class="pair">{pair}</div><p>{escape(verdict)}</p></div>'
    )


def _scatter(comparison: Comparison) -> str:
    """Each image as a dot, A's Dice to the right and B's up: above the line B is better."""
    side, left = 300, 54
    dots = []
    for a, b in zip(comparison.a.scores, comparison.b.scores, strict=True):
        x, y = a.foreground.dice, b.foreground.dice
        colour = "#777" if x == y else _COLOURS["B" if y > x else "A"]
        name = f"{escape(a.pair.name)}: A {x:.3f}, B {y:.3f}"
        dots.append(
            f'<circle cx="{left + x * side:.1f}" cy="{10 + (1 - y) * side:.1f}" r="4" '
            f'fill="{colour}" fill-opacity=".6"><title>{name}</title></circle>'
        )
    ticks = "".join(
        f'<text x="{left + v * side:.0f}" y="{side + 26}" text-anchor="middle">{v:g}</text>'
        f'<text x="{left - 6}" y="{14 + (1 - v) * side:.0f}" text-anchor="end">{v:g}</text>'
        for v in (0, 0.5, 1)
    )
    dice = comparison.differences["dice"]
    return (
        f'<svg viewBox="0 0 {side + 74} {side + 46}" role="img" aria-label="Dice of A and B">'
        f'<rect x="{left}" y="10" width="{side}" height="{side}" fill="none" stroke="#8886"/>'
        f'<line x1="{left}" y1="{side + 10}" x2="{left + side}" y2="10" stroke="#8888" '
        f'stroke-dasharray="4"/>{ticks}{"".join(dots)}'
        f'<text x="{left + side / 2}" y="{side + 42}" text-anchor="middle">Dice of A</text>'
        f'<text x="14" y="{side / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {side / 2})">Dice of B</text></svg>'
        f'<p class="dim">Each dot is an image. A is better on {dice.wins[0]}, B on {dice.wins[1]}'
        f" of {dice.images}: below and above the line.</p>"
    )


def _size_table(comparison: Comparison) -> str:
    rows = []
    for name, found in comparison.by_size.items():
        low, high = SIZES[name]
        title = f"{name} ({low:.0%} to {high:.0%} of the image)"
        if found is None:
            rows.append(f"<tr><td>{title}</td><td>0</td><td colspan=4>no such image</td></tr>")
            continue
        d = found.difference
        cells = [
            f"{found.images}",
            f"{found.a.value:.3f}",
            f"{found.b.value:.3f}",
            f"{d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f})",
            found.winner,
        ]
        rows.append(f"<tr><td>{title}</td>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    head = "<th>Dice</th><th>images</th><th>A</th><th>B</th><th>B - A</th><th>better</th>"
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _figure(
    scores: tuple[ImageScore, ImageScore], a: Contestant, b: Contestant, num_classes: int
) -> str:
    image, truth = read_pair(scores[0].pair, num_classes)
    cells = []
    for side, contestant, score in zip("AB", (a, b), scores, strict=True):
        picture = draw_mask(image, contestant.labels(image))
        draw_contour(picture, (truth > 0).astype(np.uint8), TRUTH_COLOUR, line_width(picture))
        alt = f"{side}, Dice {score.foreground.dice:.3f}"
        cells.append(f'<img alt="{alt}" src="{_embedded(picture)}">')
    dice = [score.foreground.dice for score in scores]
    caption = (
        f"{escape(scores[0].pair.name)}: {_span('A')} {dice[0]:.3f}, {_span('B')} {dice[1]:.3f}"
    )
    return f"<figure><figcaption>{caption}</figcaption><div>{''.join(cells)}</div></figure>"


def _embedded(picture: UInt8Array) -> str:
    scale = min(1.0, _PICTURE_SIDE / max(picture.shape[:2]))
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def _method(a: Contestant, b: Contestant, latency: Latency) -> str:
    models = "".join(
        f"<li>{_span(side)} {escape(model.name)}: {model.input_size[0]} x {model.input_size[1]}, "
        f"{escape(model.backend)}</li>"
        for side, model in (("A", a), ("B", b))
    )
    return (
        f"<ul>{models}<li>Dice is the mean of the images' own, at their own resolution. A false "
        f"alarm is a region of which less than {MIN_OVERLAP:.0%} lies on lesions.</li>"
        "<li>Intervals are 95 % percentile bootstrap intervals; the images are drawn, and both "
        "models' scores of an image stay together. p is of a paired permutation test. A model is "
        "called better only if the interval leaves out 0 and p is below 0.05. Of "
        f"{len(METRICS)} numbers tested so, and Dice by lesion size besides, one may come out by "
        "chance.</li><li>How many images it would take: a paired t-test at 5 % significance and "
        "80 % power, normal approximation, if the difference seen here were the true one.</li>"
        f"<li>Latency: {latency.rounds} rounds in one process, taking turns, from the decoded "
        f"frame to its mask, on {escape(latency.machine)}.</li>"
        "<li>This page holds images of the data set; mind its licence when you pass it on.</li>"
        "</ul>"
    )
