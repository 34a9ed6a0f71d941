"""The part of `rwkv-edge eval` for volume-slice sets: Synapse, ACDC and others of their layouts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rwkv_edge.data.pairs import DataSet
    from rwkv_edge.runtime import Runner


def check_packages(dataset: DataSet) -> None:
    """Raise MissingDependencyError, before the model is loaded, for h5py or scipy."""
    from rwkv_edge.data.slices import require_h5py
    from rwkv_edge.evaluation.volumes import require_scipy

    require_scipy()
    for path in dataset.volumes:
        require_h5py(path)


def measure_volumes(
    runner: Runner, dataset: DataSet, confidence: float, make_output: Callable[[], Path]
) -> tuple[dict[str, Any], Path]:
    """Evaluate the volumes and write per_volume.csv; the folder is made once all is well.

    Returns:
        The figures, and the folder that holds them.

    Raises:
        DataError, BackendError, OutputError: as their messages say.
    """
    from rwkv_edge.cli.console import progress_bar
    from rwkv_edge.evaluation.volumes import evaluate_volumes, per_volume_csv, volume_summary
    from rwkv_edge.files import write_text
    from rwkv_edge.preprocess import foreground_names

    size, names = runner.info.input_size, dataset.names
    with progress_bar("evaluating volumes", len(dataset.volumes)) as advance:
        scores = evaluate_volumes(
            runner, size, dataset.volumes, names, confidence, advance, dataset.window
        )
    classes = foreground_names(names)
    folder = make_output()
    write_text(folder / "per_volume.csv", per_volume_csv(scores, classes))
    return volume_summary(scores, classes), folder


def show_volumes(metrics: dict[str, Any], folder: Path, *, to_stderr: bool) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    from rwkv_edge.cli.eval import describe_data

    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    console.print(describe_data(metrics["data"], metrics["split"]), markup=False)
    table = Table("class", "Dice", "95 % interval", "HD95, voxels", "95 % interval", "volumes")
    for name, row in {"mean": metrics, **metrics["classes"]}.items():
        cells = []
        for figure, digits in (("dice", 4), ("hd95", 2)):
            low, high = row["intervals_95"][figure]
            cells += [f"{row[figure]:.{digits}f}", f"{low:.{digits}f} to {high:.{digits}f}"]
        table.add_row(name, *cells, str(metrics["volumes"]) if row is metrics else _cases(row))
    console.print(table)
    console.print(
        "empty classes count as published: invented ones Dice 1, missed and absent ones 0; HD95 0"
    )
    console.print(f"weights: {metrics['weights']}, {metrics['backend']}", markup=False)
    console.print(f"each volume: {folder / 'per_volume.csv'}", markup=False)


def _cases(row: dict[str, Any]) -> str:
    found = [f"{row[case]} {case}" for case in ("measured", "missed", "invented", "absent")]
    return ", ".join(text for text in found if not text.startswith("0 "))
