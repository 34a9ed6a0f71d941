"""`rwkv-edge data list` and `rwkv-edge data fetch`."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rwkv_edge.data.sources import Source

data = typer.Typer(
    help="Public data sets: their licences, and fetching them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@data.command("list")
def show() -> None:
    """List the data sets that can be fetched, with page, licence and where that was read.

    Example: rwkv-edge data list
    """
    from rwkv_edge.data.sources import load_sources

    for source in load_sources().values():
        print(f"{source.name}")
        _describe(source, "  ")
        print(f"  read in: {source.source}\n")


@data.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="As 'rwkv-edge data list' names it.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder to make. Default: NAME, here.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", help="The archive from elsewhere: a file at hand, or an address."),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="What the archive's SHA-256 must be, hexadecimal.")
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="For scripts: you have read and accept it.")
    ] = False,
) -> None:
    """Download a public data set from its owners, and arrange it as images/ and masks/.

    The licence is shown first, and nothing is downloaded before it is
    accepted. The owners publish no hashes: without --sha256 the archive's own
    is printed and kept in the file SHA256, to compare with the next time. An
    archive with unsafe names or links is refused.

    The addresses were read in the owners' pages; the servers themselves were
    not tried, since no network was at hand where this was written.

    Example: rwkv-edge data fetch kvasir-seg
    """
    from rwkv_edge.cli.console import byte_bar
    from rwkv_edge.data.fetch import fetch_dataset
    from rwkv_edge.data.sources import load_sources
    from rwkv_edge.errors import DownloadError, OutputError, RwkvEdgeError, UsageError

    sources = load_sources()
    if name not in sources:
        raise UsageError(f"'{name}': choose one of {', '.join(sources)}")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"--sha256 {sha256}: give 64 hexadecimal digits")
    row = sources[name]
    if source is not None and Path(source).is_dir():
        raise UsageError(f"--from {source}: is a folder; give the archive itself")
    address = source or row.url
    if address is None:
        raise DownloadError(f"{name}: no address to fetch it from; see {row.page} ({row.note})")
    folder = output or Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is there already; choose another --output")
    _describe(row, "")
    print(f"to fetch: {address}")
    if not accept_licence:
        if not sys.stdin.isatty():
            raise UsageError("no terminal to ask at; read the licence and add --accept-licence")
        if not typer.confirm("Do you accept this licence?"):
            raise RwkvEdgeError("the licence was declined; nothing was downloaded")
    with byte_bar(name) as on_bytes:
        done = fetch_dataset(row, address, folder, sha256, on_bytes)
    print(f"wrote {done.images} images with masks to {folder}")
    checked = "verified" if done.was_checked else "not known before, kept in the file SHA256"
    print(f"SHA256 {done.sha256} ({checked})")
    print(f"next: rwkv-edge split --data {shlex.quote(str(folder))}")


def _describe(source: Source, indent: str) -> None:
    print(f"{indent}{source.title}{f', {source.size}' if source.size else ''}")
    print(f"{indent}page: {source.page}")
    print(f"{indent}address: {source.url or 'none'}")
    print(f"{indent}licence: {source.licence}")
    if source.note:
        print(f"{indent}note: {source.note}")
