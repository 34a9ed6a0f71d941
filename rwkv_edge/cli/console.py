"""Bars, tables and files that several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rwkv_edge.files import write_json

if TYPE_CHECKING:
    import typer


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error; call the yielded function after each piece of work.

    `total` None means unknown: a pulsing bar with a count.
    """
    with _bar(MofNCompleteColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def byte_bar(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a download on standard error; call with the bytes so far, and the total or None."""
    with _bar(DownloadColumn()) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _bar(*columns: ProgressColumn) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def write_json_option(target: str, value: Any) -> None:
    """Write `value` where `--json` says: a file, or '-' for standard output."""
    if target == "-":
        json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        write_json(Path(target), value)


def given_options(context: typer.Context) -> dict[str, Any]:
    """Return the options that stand on the command line, with their values."""
    given = {}
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            given[parameter.opts[-1]] = context.params[name]
    return given
