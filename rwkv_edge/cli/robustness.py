"""`rwkv-edge robustness`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkv_edge.cli.eval import ConfOption, LimitOption, SplitOption
from rwkv_edge.cli.loading import BackendOption, ImgszOption, NameOption
from rwkv_edge.cli.outputs import JsonOption
from rwkv_edge.cli.ranges import between
from rwkv_edge.config import DEFAULT_CONFIDENCE, DEFAULT_VARIANT

if TYPE_CHECKING:
    from rwkv_edge.evaluation.robustness import Robustness

_SHEET_SEED, _SHEET_SIZE = 7, (320, 320)


def robustness(
    data: Annotated[
        list[Path],
        typer.Option(help="As of eval; give it several times to compare data sets in a table."),
    ],
    model: Annotated[
        str, typer.Option(help="tiny, small, base, unet (shipped), a checkpoint, .onnx or .engine.")
    ] = DEFAULT_VARIANT,
    preprocess: Annotated[
        str | None,
        typer.Option(help="Of an ONNX file of another project; see --b-preprocess of compare."),
    ] = None,
    backend: BackendOption = "auto",
    imgsz: ImgszOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    only: Annotated[
        str | None, typer.Option(help="Corruptions, with commas. Default: all twenty.")
    ] = None,
    conf: ConfOption = DEFAULT_CONFIDENCE,
    seed: Annotated[
        int, typer.Option(help="The same seed corrupts alike.", callback=between(0, 2**32 - 1))
    ] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/robustness/NAME.")
    ] = None,
    name: NameOption = "exp",
    json: JsonOption = None,
) -> None:
    """Measure a model on worse and worse pictures: 20 corruptions, 5 strengths.

    Every image is segmented 101 times; --limit 20 gives a quick look. The
    one figure is Dice under corruption divided by clean Dice, mean of all.
    The output folder gets robustness.json, robustness.csv, curves.png and
    corruptions.png, which shows them on a rendered frame, not on your data.

    Example: rwkv-edge robustness --data kvasir-seg --data clinicdb --limit 20
    """
    from rwkv_edge.cli.console import progress_bar, write_json_option
    from rwkv_edge.cli.contestants import open_contestant
    from rwkv_edge.cli.eval import check_classes, describe_data, load_pairs
    from rwkv_edge.config import RESEARCH_USE
    from rwkv_edge.errors import UsageError
    from rwkv_edge.evaluation.corruptions import CORRUPTIONS
    from rwkv_edge.evaluation.robustness import measure_robustness, robustness_csv
    from rwkv_edge.files import check_writable, make_folder, new_run_folder, write_json, write_text

    names = [word.strip() for word in only.split(",")] if only else list(CORRUPTIONS)
    for word in names:
        if word not in CORRUPTIONS:
            raise UsageError(f"--only {word}: choose among {', '.join(CORRUPTIONS)}")
    if len({str(path) for path in data}) < len(data):
        raise UsageError("--data: the same data set is given twice")
    sets = {str(path): load_pairs(path, split, limit) for path in data}
    check_writable(output or Path("runs/robustness"))
    results = {}
    with ExitStack() as stack:
        opened = open_contestant("", model, preprocess, backend, imgsz, stack)
        for path, (dataset, _, _) in sets.items():
            if opened.names:
                check_classes(path, dataset.names, opened.names)
        total = sum(len(pairs) for _, pairs, _ in sets.values())
        with progress_bar("corrupting", total) as advance:
            for path, (dataset, pairs, _) in sets.items():
                results[path] = measure_robustness(
                    opened.segment, pairs, dataset.num_classes, conf, names, seed, advance
                )
    record = {
        "use": RESEARCH_USE,
        "model": opened.name,
        "backend": opened.backend,
        "input_size": list(opened.input_size),
        "confidence": conf,
        "seed": seed,
        "data": {
            path: {"split": sets[path][2], **result.record()} for path, result in results.items()
        },
    }
    folder = make_folder(output) if output else new_run_folder("robustness", name)
    write_json(folder / "robustness.json", record)
    write_text(folder / "robustness.csv", robustness_csv(results))
    _draw(folder, results)
    shown = [describe_data(path, chosen) for path, (_, _, chosen) in sets.items()]
    _show(results, shown, opened.name, folder, to_stderr=json == "-")
    if json:
        write_json_option(json, record)


def _draw(folder: Path, results: dict[str, Robustness]) -> None:
    import sys

    import numpy as np

    from rwkv_edge.data.synth import render_image
    from rwkv_edge.errors import MissingDependencyError
    from rwkv_edge.evaluation.robustness import draw_corruptions, draw_robustness

    frame = render_image(_SHEET_SEED, _SHEET_SIZE, polyps=1)
    draw_corruptions(folder / "corruptions.png", frame.image, (frame.mask > 0).astype(np.uint8))
    try:
        draw_robustness(folder / "curves.png", results)
    except MissingDependencyError as error:
        print(f"left out: {error}", file=sys.stderr)


def _show(
    results: dict[str, Robustness], data: list[str], model: str, folder: Path, *, to_stderr: bool
) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    sets = Table("data set", "images", "clean Dice", "corrupted / clean")
    for path, result in results.items():
        share = result.relative_dice
        shown = "none" if share is None else f"{share:.4f}"
        sets.add_row(path, f"{result.images}", f"{result.clean.dice:.4f}", shown)
    table = Table("Dice at strength", "clean", "1", "2", "3", "4", "5")
    first = next(iter(results.values()))
    for name, cells in first.corrupted.items():
        dice = [first.clean.dice, *(cell.dice for cell in cells)]
        table.add_row(name, *(f"{value:.3f}" for value in dice))
    for words in data:
        console.print(words, markup=False)
    console.print(table)
    console.print(sets)
    console.print(f"{model}; see {folder / 'curves.png'}", markup=False)
