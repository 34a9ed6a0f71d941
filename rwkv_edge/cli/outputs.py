"""Files that options name to be written: what cannot be written is refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rwkv_edge.errors import UsageError
from rwkv_edge.files import check_writable


def writable_file(option: typer.CallbackParam, value: Any) -> Any:
    """Return the file as it is, as a callback for `typer.Option`; '-' is standard output.

    Raises:
        UsageError: it is a folder.
        OutputError: its folder cannot be made, or not be written.
    """
    if value is not None and str(value) != "-":
        path = Path(value)
        if path.is_dir():
            raise UsageError(f"{option.opts[0]} {path}: is a folder; name a file in it")
        check_writable(path.parent)
    return value


JsonOption = Annotated[
    str | None,
    typer.Option(
        help="Write the results as JSON to this file, '-' for stdout.", callback=writable_file
    ),
]
CsvOption = Annotated[
    Path | None, typer.Option(help="Write the table to this file too.", callback=writable_file)
]
