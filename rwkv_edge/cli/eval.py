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
    NameOption,
    VariantOption,
    WeightsOption,
)
from rwkv_edge.cli.outputs import JsonOption
from rwkv_edge.cli.ranges import at_least, between
from rwkv_edge.config import DEFAULT_CONFIDENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from rwkv_edge.data.pairs import DataSet, Pair
    from rwkv_edge.evaluation import Evaluation
    from rwkv_edge.runtime import Runner

SPLITS = ("train", "val", "test", "all")

# What compare and robustness take alike, too.
SplitOption = Annotated[
    str | None,
    typer.Option(help="train, val, test or all. Default: val, else test, else all."),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        help="Use only so many images of each data set, evenly spread.", callback=at_least(1)
    ),
]
ConfOption = Annotated[
    float,
    typer.Option(
        help="Probability from which a pixel counts as lesion, 0 to 1.", callback=between(0, 1)
    ),
]


def evaluate(
    data: Annotated[
        Path,
        typer.Option(
            help="A folder with images/ and masks/, of splits, or of volumes (Synapse, ACDC); or "
            "a YAML."
        ),
    ],
    weights: WeightsOption = None,
    model: ModelOption = None,
    variant: VariantOption = None,
    backend: BackendOption = "auto",
    imgsz: ImgszOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    conf: Annotated[
        float | None,
        typer.Option(
            help="Probability from which a pixel counts as lesion, 0 to 1. Default: "
            f"{DEFAULT_CONFIDENCE}; of volumes with several classes, the most probable one counts.",
            callback=between(0, 1),
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/eval/NAME.")
    ] = None,
    name: NameOption = "exp",
    json: JsonOption = None,
) -> None:
    """Measure a model on labelled images, at their own resolution.

    Mean Dice and IoU are means over images; pooled Dice, precision, recall
    and false-positive rate count the pixels of all images together; of
    several classes, a pixel of the wrong one is both missed and false. A lesion
    is found if a quarter of it is; a region of which less than a quarter lies
    on lesions is a false alarm. Intervals are 95 % bootstrap intervals over
    images. The output folder gets metrics.json, per_image.csv, worst.png and
    reliability.png. The test volumes of a volume-slice set get 3-D Dice and
    HD95 of each class, in metrics.json and per_volume.csv; see docs/data.md.

    Example: rwkv-edge eval --data kvasir-seg --weights best.safetensors
    """
    from rwkv_edge.cli.console import write_json_option
    from rwkv_edge.cli.eval_volumes import check_packages, measure_volumes, show_volumes
    from rwkv_edge.cli.loading import open_runner
    from rwkv_edge.errors import UsageError
    from rwkv_edge.files import check_writable, make_folder, new_run_folder, write_json

    dataset = _open_dataset(data, split)
    in_volumes = bool(dataset.volumes) and split in (None, "test")
    if conf is None:
        conf = 0.0 if in_volumes and dataset.num_classes > 1 else DEFAULT_CONFIDENCE
    pairs: list[Pair] = []
    chosen = "test"
    if in_volumes:
        if limit is not None:
            raise UsageError("--limit: counts images, but here whole volumes are measured")
        check_packages(dataset)
    else:
        pairs, chosen = _choose_pairs(dataset, split, limit)
    check_writable(output or Path("runs/eval"))

    with open_runner(weights, model, variant, backend, imgsz) as runner:
        check_classes(data, dataset.names, runner.info.names)

        def make_output() -> Path:
            return make_folder(output) if output else new_run_folder("eval", name)

        if in_volumes:
            figures, folder = measure_volumes(runner, dataset, conf, make_output)
        else:
            figures, folder, result = _measure_images(runner, pairs, dataset, conf, make_output)
        metrics = {
            **figures,
            "backend": runner.backend,
            "weights": str(weights or model or runner.info.source),
            "data": str(data),
            "split": chosen,
            "confidence": conf,
            "input_size": runner.info.input_size,
        }
    write_json(folder / "metrics.json", metrics)
    if in_volumes:
        show_volumes(metrics, folder, to_stderr=json == "-")
    else:
        _show(result, metrics, folder, to_stderr=json == "-")
    if json:
        write_json_option(json, metrics)


def load_pairs(
    data: Path, split: str | None, limit: int | None = None
) -> tuple[DataSet, list[Pair], str]:
    """Return a data set, the images that were asked for, and the name of their split.

    Raises:
        UsageError: no split has that name.
        DataError: no such data set, or it has no such split.
    """
    dataset = _open_dataset(data, split)
    return dataset, *_choose_pairs(dataset, split, limit)


def check_classes(
    data: Path | str, names: tuple[str, ...], known: tuple[str, ...], model: str = "the model"
) -> None:
    """Refuse a model of other classes than the data's.

    Other names may mean the same classes, the same in another order cannot.

    Raises:
        DataError: another number of classes, or another order.
    """
    from rwkv_edge.errors import DataError

    if len(known) != len(names) or (known != names and set(known) == set(names)):
        raise DataError(
            f"{data}: has the classes {', '.join(names)}, but {model} knows {', '.join(known)}"
        )


def describe_data(data: Path | str, chosen: str) -> str:
    """Say which images of a data set were measured, to stand beside the figures."""
    if chosen != "all":
        return f"{data}, split '{chosen}'"
    return f"{data}, no split: images that the model was trained on may be among them"


def _open_dataset(data: Path, split: str | None) -> DataSet:
    from rwkv_edge.data.pairs import load_dataset
    from rwkv_edge.errors import UsageError

    if split not in (None, *SPLITS):
        raise UsageError(f"--split {split}: choose one of {', '.join(SPLITS)}")
    return load_dataset(data)


def _choose_pairs(dataset: DataSet, split: str | None, limit: int | None) -> tuple[list[Pair], str]:
    chosen = dataset.first(split) if split else dataset.first("val", "test", "all")
    if chosen == "test" and split is None:
        print(f"{dataset.path}: no 'val' split, so it is 'test' that is measured", file=sys.stderr)
    pairs = dataset.splits[chosen]
    if limit is not None and limit < len(pairs):
        pairs = [pairs[index * len(pairs) // limit] for index in range(limit)]
    return pairs, chosen


def _measure_images(
    runner: Runner,
    pairs: list[Pair],
    dataset: DataSet,
    conf: float,
    make_output: Callable[[], Path],
) -> tuple[dict[str, Any], Path, Evaluation]:
    """Evaluate images and write the pictures and the table; the folder is made once all is well."""
    from rwkv_edge.cli.console import progress_bar
    from rwkv_edge.evaluation import (
        draw_worst_cases,
        evaluate,
        per_image_csv,
        predict_labels,
        summary,
    )
    from rwkv_edge.files import write_text

    size = runner.info.input_size
    with progress_bar("evaluating", len(pairs)) as advance:
        result = evaluate(runner, size, pairs, dataset.names, conf, advance)
    folder = make_output()
    draw_worst_cases(
        folder / "worst.png", result, lambda image: predict_labels(runner, size, image, conf)
    )
    _draw_reliability(folder / "reliability.png", result)
    write_text(folder / "per_image.csv", per_image_csv(result))
    return summary(result), folder, result


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

    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    console.print(describe_data(metrics["data"], metrics["split"]), markup=False)
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
