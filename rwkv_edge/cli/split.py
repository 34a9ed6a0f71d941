"""`rwkv-edge split`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rwkv_edge.cli.outputs import writable_file


def split(
    data: Annotated[Path, typer.Option(help="A folder with images/ and masks/; stays as it is.")],
    output: Annotated[
        Path | None,
        typer.Option(
            help="YAML to write. Default: DATA.yaml, beside the folder.", callback=writable_file
        ),
    ] = None,
    fractions: Annotated[
        str, typer.Option(help="Shares of train, val and test, which add up to 1.")
    ] = "0.8,0.1,0.1",
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
    group_regex: Annotated[
        str | None,
        typer.Option(help="The first parentheses find an image's sequence or patient in its name."),
    ] = None,
    group_csv: Annotated[
        Path | None, typer.Option(help="Table of groups with the columns image and group.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing split.")] = False,
) -> None:
    r"""Divide images into train, val and test, keeping patients apart.

    Writes a YAML for train and eval, and beside it a list of image names for
    each split. All images of one group (a sequence, a patient) go to one split.

    Example: rwkv-edge split --data cvc --group-regex '^(seq\d+)_'
    """
    from rwkv_edge.data.pairs import load_dataset
    from rwkv_edge.data.split import (
        SPLITS,
        check_fractions,
        groups_by_csv,
        groups_by_pattern,
        list_path,
        split_pairs,
        write_split,
    )
    from rwkv_edge.errors import DataError, UsageError

    shares = _parse_fractions(fractions)
    check_fractions(shares)
    if group_regex is not None and group_csv is not None:
        raise UsageError("--group-regex and --group-csv exclude each other")
    target = output or data.resolve().parent / f"{data.resolve().name}.yaml"
    if target.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--output {target}: must end in .yaml")
    lists = [list_path(target, name) for name, share in zip(SPLITS, shares, strict=True) if share]
    for file in (target, *lists):
        if file.is_dir():
            raise UsageError(f"{file} is a folder; choose another --output")
        if file.exists() and not force:
            raise UsageError(
                f"{file} exists; add --force to replace it, or choose another --output"
            )

    dataset = load_dataset(data)
    if "all" not in dataset.splits:
        raise DataError(
            f"{data}: is split already ({', '.join(dataset.splits)}); give one folder with "
            "images/ and masks/"
        )
    pairs = dataset.splits["all"]
    groups = None
    if group_regex is not None:
        groups = groups_by_pattern(pairs, group_regex)
    elif group_csv is not None:
        groups = groups_by_csv(pairs, group_csv)
    splits = split_pairs(pairs, shares, seed, groups)
    write_split(target, data, splits, dataset.names)
    labels = groups or [pair.name for pair in pairs]
    group_of = dict(zip(pairs, labels, strict=True))
    _show({name: (len(part), len({group_of[p] for p in part})) for name, part in splits.items()})
    print(f"wrote {target}")


def _parse_fractions(text: str) -> list[float]:
    from rwkv_edge.errors import UsageError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--fractions {text}: give three numbers, as in 0.8,0.1,0.1") from error


def _show(counts: dict[str, tuple[int, int]]) -> None:
    from rich.console import Console
    from rich.table import Table

    total = sum(images for images, _ in counts.values())
    table = Table("split")
    for title in ("images", "share", "groups"):
        table.add_column(title, justify="right")
    for name, (images, groups) in counts.items():
        table.add_row(name, str(images), f"{images / total:.1%}", str(groups))
    Console().print(table)
