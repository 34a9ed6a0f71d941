"""`rwkv-edge compare`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rwkv_edge.cli.eval import ConfOption, LimitOption, SplitOption
from rwkv_edge.cli.loading import BackendOption, ImgszOption, NameOption
from rwkv_edge.cli.outputs import JsonOption
from rwkv_edge.cli.ranges import at_least
from rwkv_edge.config import DEFAULT_CONFIDENCE

if TYPE_CHECKING:
    from rwkv_edge.cli.contestants import Opened
    from rwkv_edge.data.pairs import Pair
    from rwkv_edge.evaluation.compare import Comparison, Latency
    from rwkv_edge.evaluation.comparison_page import Contestant

_MODEL = "tiny, small, base, unet (shipped), a checkpoint, .onnx or .engine."
_TIMED_IMAGES = 8


def compare(
    a: Annotated[str, typer.Option("--a", help=f"The model in use: {_MODEL}")],
    b: Annotated[str, typer.Option("--b", help=f"The one to judge: {_MODEL}")],
    data: Annotated[
        Path, typer.Option(help="A folder with images/ and masks/, a folder of splits, or a YAML.")
    ],
    a_preprocess: Annotated[str | None, typer.Option(help="As --b-preprocess, of --a.")] = None,
    b_preprocess: Annotated[
        str | None,
        typer.Option(
            help="What an ONNX file of another project takes and gives, in words: rgb|bgr, "
            "0-1|0-255|-1-1, plain|imagenet, stretch|letterbox, nchw|nhwc, logits|probability, "
            "HEIGHTxWIDTH. The first of each is the default."
        ),
    ] = None,
    backend: BackendOption = "auto",
    imgsz: ImgszOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    conf: ConfOption = DEFAULT_CONFIDENCE,
    rounds: Annotated[
        int,
        typer.Option(
            help="Frames that each model is timed on; a handful tells no winner.",
            callback=at_least(2),
        ),
    ] = 50,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/compare/NAME.")
    ] = None,
    name: NameOption = "exp",
    json: JsonOption = None,
) -> None:
    """Compare two models on the same images: Dice, false alarms, latency.

    Each number comes with a paired interval, a paired test and a sentence
    that says which model is better, or that the images are too few and how
    many it would take. The output folder gets report.html, which is one file
    and holds images of the data set, and comparison.json.

    Example: rwkv-edge compare --a old.onnx --a-preprocess rgb,0-1,imagenet --b tiny --data my-data
    """
    from rwkv_edge.cli.console import progress_bar, write_json_option
    from rwkv_edge.cli.contestants import open_contestant
    from rwkv_edge.cli.eval import check_classes, describe_data, load_pairs
    from rwkv_edge.evaluation import evaluate_masks
    from rwkv_edge.evaluation.compare import compare as run_comparison
    from rwkv_edge.evaluation.comparison_page import comparison_page
    from rwkv_edge.files import check_writable, make_folder, new_run_folder, write_json, write_text

    dataset, pairs, chosen = load_pairs(data, split, limit)
    shown = describe_data(data, chosen)
    check_writable(output or Path("runs/compare"))
    with ExitStack() as stack:
        models = {
            side: open_contestant(f"{side}-", given, preprocess, backend, imgsz, stack)
            for side, given, preprocess in (("a", a, a_preprocess), ("b", b, b_preprocess))
        }
        for side, model in models.items():
            if model.names:
                check_classes(data, dataset.names, model.names, f"--{side}")
        found = []
        with progress_bar("comparing", 2 * len(pairs)) as advance:
            for model in models.values():
                found.append(evaluate_masks(model.segment, pairs, dataset.names, conf, advance))
        comparison = run_comparison(*found)
        latency, table = _time(list(models.values()), pairs, dataset.num_classes, conf, rounds)
        sides = (
            _contestant(models["a"], table["a"], conf),
            _contestant(models["b"], table["b"], conf),
        )
        page = comparison_page(comparison, sides, latency, shown)
    record = _record(comparison, sides, latency, table)
    record |= {"data": str(data), "split": chosen, "confidence": conf}
    folder = make_folder(output) if output else new_run_folder("compare", name)
    write_text(folder / "report.html", page)
    write_json(folder / "comparison.json", record)
    _show(comparison, latency, sides, shown, folder, to_stderr=json == "-")
    if json:
        write_json_option(json, record)


def _time(
    models: list[Opened], pairs: list[Pair], num_classes: int, conf: float, rounds: int
) -> tuple[Latency, dict[str, dict[str, float]]]:
    """Let both take turns from frame to mask; the frames are the first images of the data."""
    import itertools

    from rwkv_edge.bench.timing import alternate, describe_machine, ratio_interval, summarise
    from rwkv_edge.data.pairs import read_pair
    from rwkv_edge.evaluation.bootstrap import Interval
    from rwkv_edge.evaluation.compare import Latency
    from rwkv_edge.preprocess import to_mask

    images = [read_pair(pair, num_classes)[0] for pair in pairs[:_TIMED_IMAGES]]

    def caller(model: Opened) -> Any:
        frames = itertools.cycle(images)  # of each its own, so that both see the same in a round
        return lambda: to_mask(model.segment(next(frames)), conf)

    times = alternate({side: caller(m) for side, m in zip("ab", models, strict=True)}, rounds)
    found = ratio_interval(times["b"], times["a"], paired=True)
    ratio = Interval(found.value, found.low, found.high)
    machine = describe_machine("onnxruntime")
    return (
        Latency(ratio, rounds, machine.get("board") or machine["processor"]),
        summarise(times),
    )


def _contestant(model: Opened, times: dict[str, float], conf: float) -> Contestant:
    from rwkv_edge.evaluation.comparison_page import Contestant
    from rwkv_edge.preprocess import UInt8Array, to_mask

    def labels(image: UInt8Array) -> UInt8Array:
        return to_mask(model.segment(image), conf)

    return Contestant(
        model.name, model.backend, model.input_size, times["p50_ms"], times["p90_ms"], labels
    )


def _record(
    comparison: Comparison,
    sides: tuple[Contestant, Contestant],
    latency: Latency,
    table: dict[str, dict[str, float]],
) -> dict[str, Any]:
    from rwkv_edge.config import RESEARCH_USE
    from rwkv_edge.evaluation.comparison_page import SHOWN_IMAGES

    record: dict[str, Any] = {"use": RESEARCH_USE, "images": len(comparison.a.scores)}
    for side, model in zip("ab", sides, strict=True):
        record[side] = {
            "model": model.name,
            "backend": model.backend,
            "input_size": list(model.input_size),
        }
    record |= {name: found.record() for name, found in comparison.differences.items()}
    record["latency"] = {
        "a": table["a"],
        "b": table["b"],
        "ratio_b_to_a": vars(latency.ratio),
        "rounds": latency.rounds,
        "machine": latency.machine,
        "winner": latency.winner,
        "verdict": latency.verdict,
    }
    record["dice_by_size"] = {
        name: found.record() if found else None for name, found in comparison.by_size.items()
    }
    record["most_different"] = [
        {"image": a.pair.name, "dice_a": a.foreground.dice, "dice_b": b.foreground.dice}
        for a, b in comparison.most_different(SHOWN_IMAGES)
    ]
    return record


def _show(
    comparison: Comparison,
    latency: Latency,
    sides: tuple[Contestant, Contestant],
    data: str,
    folder: Path,
    *,
    to_stderr: bool,
) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    console.print(data, markup=False)
    table = Table("", "A", "B", "better")
    for found in comparison.differences.values():
        table.add_row(
            found.metric.title, f"{found.a.value:.4f}", f"{found.b.value:.4f}", found.winner
        )
    times = [f"{side.median_ms:.1f} ms" for side in sides]
    table.add_row("latency of a frame, median", *times, latency.winner)
    console.print(table)
    for side, model in zip("AB", sides, strict=True):
        console.print(f"{side}: {model.name}, {model.backend}", markup=False)
    for found in comparison.differences.values():
        console.print(found.verdict, markup=False)
    console.print(latency.verdict, markup=False)
    console.print(f"see {folder / 'report.html'}", markup=False)
