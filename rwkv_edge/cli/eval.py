"""`rwkv-edge eval`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rwkv_edge.cli.loading import (
    BackendOption,
    ImgszOption,
    ModelOption,
    VariantOption,
    WeightsOption,
)
from rwkv_edge.config import DEFAULT_CONFIDENCE

if TYPE_CHECKING:
    from rwkv_edge.data.pairs import DataSet, Pair
    from rwkv_edge.evaluation import Evaluation

SPLITS = ("train", "val", "test", "all")

# What compare and robustness take alike, too; `load_pairs` checks it.
SplitOption = Annotated[
    str | None,
    typer.Option(help="train, val, test or all. Default: val, else test, else all."),
]
ConfOption = Annotated[
    float, typer.Option(help="Probability from which a pixel counts as lesion, 0 to 1.")
]
NameOption = Annotated[str, typer.Option(help="Of the run; taken ones get a number.")]
JsonOption = Annotated[
    str | None, typer.Option(help="Write the figures as JSON to this file, '-' for stdout.")
]


def evaluate(
    data: Annotated[
        Path, typer.Option(help="A folder with images/ and masks/, a folder of splits, or a YAML.")
    ],
    weights: WeightsOption = None,
    model: ModelOption = None,
    variant: VariantOption = None,
    backend: BackendOption = "auto",
    imgsz: ImgszOption = None,
    split: SplitOption = None,
    conf: ConfOption = DEFAULT_CONFIDENCE,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/eval/NAME.")
    ] = None,
    name: NameOption = "exp",
    json: JsonOption = None,
) -> None:
    """Measure a model on labelled images, at their own resolution.

    Mean Dice and IoU are means over images; pooled Dice, precision, recall
    and false-positive rate count the pixels of all images together. A lesion
    is found if a quarter of it is; a region of which less than a quarter lies
    on lesions is a false alarm. Intervals are 95 % bootstrap intervals over
    images. The output folder gets metrics.json, per_image.csv, worst.png and
    reliability.png.

    Example: rwkv-edge eval --data kvasir-seg --weights best.safetensors
    """
    from rwkv_edge.cli.console import progress_bar, write_json_option
    from rwkv_edge.cli.loading import open_runner
    from rwkv_edge.errors import DataError
    from rwkv_edge.evaluation import draw_worst_cases, per_image_csv, predict_labels, summary
    from rwkv_edge.evaluation import evaluate as run_evaluation
    from rwkv_edge.files import (
        check_writable,
        make_folder,
        new_run_folder,
        write_json,
        write_text,
    )

    dataset, pairs, chosen = load_pairs(data, split, conf)
    check_writable(output or Path("runs/eval"))
    if json not in (None, "-"):
        check_writable(Path(json).parent)

    with open_runner(weights, model, variant, backend, imgsz) as runner:
        if len(runner.info.names) != dataset.num_classes:
            raise DataError(
                f"{data}: has the classes {', '.join(dataset.names)}, "
                f"but the model knows {', '.join(runner.info.names)}"
            )
        size = runner.info.input_size
        with progress_bar("evaluating", len(pairs)) as advance:
            result = run_evaluation(runner, size, pairs, dataset.names, conf, advance)
        folder = make_folder(output) if output else new_run_folder("eval", name)
        draw_worst_cases(
            folder / "worst.png", result, lambda image: predict_labels(runner, size, image, conf)
        )
        metrics = {
            **summary(result),
            "backend": runner.backend,
            "weights": str(weights or model or runner.info.source),
        }
    _draw_reliability(folder / "reliability.png", result)
    write_text(folder / "per_image.csv", per_image_csv(result))
    write_json(
        folder / "metrics.json",
        {
            **metrics,
            "data": str(data),
            "split": chosen,
            "confidence": conf,
            "input_size": size,
        },
    )
    _show(result, metrics, folder, to_stderr=json == "-")
    if json:
        write_json_option(json, metrics)


def load_pairs(
    data: Path, split: str | None, conf: float, limit: int | None = None
) -> tuple[DataSet, list[Pair], str]:
    """Check what several commands are given alike; return the images, and the name of their split.

    Raises:
        UsageError: an option is out of range.
        DataError: no such data set or split.
    """
    from rwkv_edge.data.pairs import load_dataset
    from rwkv_edge.errors import UsageError

    if not 0 <= conf <= 1:
        raise UsageError(f"--conf {conf}: give a probability from 0 to 1")
    if split not in (None, *SPLITS):
        raise UsageError(f"--split {split}: choose one of {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: give 1 or more")
    dataset = load_dataset(data)
    wanted = (split,) if split else ("val", "test", "all")
    pairs = dataset.pairs(*wanted)
    if limit is not None and limit < len(pairs):
        pairs = [pairs[index * len(pairs) // limit] for index in range(limit)]
    return dataset, pairs, next(name for name in wanted if dataset.splits.get(name))


def _draw_reliability(path: Path, result: Evaluation) -> None:
    """Draw the plot, or say which optional package it and the weighted F-measure lack."""
    from rwkv_edge.errors import MissingDependencyError
    from rwkv_edge.evaluation.calibration import draw_reliability
    from rwkv_edge.evaluation.evaluate import has_scipy
    from rwkv_edge.evaluation.summary import pooled_reliability

    try:
        draw_reliability(path, pooled_reliability(result))
    except MissingDependencyError as error:
        print(f"left out: {error}", file=sys.stderr)
    if not has_scipy():
        missing = MissingDependencyError("scipy", "evaluation", "the weighted F-measure")
        print(f"left out: {missing}", file=sys.stderr)


def _show(result: Evaluation, metrics: dict[str, Any], folder: Path, *, to_stderr: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from rwkv_edge.evaluation.summary import TITLES

    table = Table("", "", "95 % interval")
    table.columns[1].justify = "right"
    table.add_row("images", f"{metrics['images']}")
    for key, (low, high) in metrics["intervals_95"].items():
        table.add_row(TITLES[key], f"{metrics[key]:.4f}", f"{low:.4f} to {high:.4f}")
    for name, dice in metrics.get("class_dice", {}).items():
        table.add_row(f"Dice of all pixels, {name}", f"{dice:.4f}")
        mean = metrics["class_mean_dice"][name]
        table.add_row(f"mean Dice, {name}", "none shown" if mean is None else f"{mean:.4f}")
    for name, row in metrics["by_size"].items():
        if row["images"]:
            low, high = row["interval_95"]
            title = f"mean Dice, {name} ({row['images']} images)"
            table.add_row(title, f"{row['mean_dice']:.4f}", f"{low:.4f} to {high:.4f}")
    free = metrics["lesion_free"]
    if free["images"]:
        table.add_row(
            f"false alarm, of {free['images']} without", f"{free['with_false_alarm']:.4f}"
        )
    worst = result.worst(1)[0]
    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    console.print(table)
    shares = [
        f"{name} {row['area_share'][0]:.0%} to {row['area_share'][1]:.0%}"
        for name, row in metrics["by_size"].items()
    ]
    console.print(f"lesion sizes, of the image's area: {', '.join(shares)}", markup=False)
    console.print(f"weights: {metrics['weights']}, {metrics['backend']}", markup=False)
    console.print(
        f"worst: {worst.pair.name}, Dice {worst.foreground.dice:.4f}; see {folder / 'worst.png'}",
        markup=False,
    )
