"""`rwkv-edge weights` and `rwkv-edge weights fetch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rwkv_edge.weights.registry import Entry

weights = typer.Typer(
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@weights.callback()
def show(context: typer.Context) -> None:
    """List the weights of every variant, where they are, and check their SHA-256.

    Dice is the mean over validation images, from `rwkv-edge eval`. Research
    use only, not for diagnosis.

    Example: rwkv-edge weights
    """
    if context.invoked_subcommand is not None:
        return
    from rwkv_edge.config import VARIANTS
    from rwkv_edge.weights.registry import load_registry

    entries = load_registry()
    width = max((len(entry.name) for entry in entries), default=0)
    for variant in VARIANTS:
        rows = [entry for entry in entries if entry.variant == variant]
        for entry in rows:
            dice = "" if entry.dice is None else f"Dice {entry.dice:.3f}"
            size = f"{entry.size / 1e6:6.1f} MB"
            print(f"{variant:6} {entry.name:{width}} {size}  {dice:10}  {_state(entry)}")
        if not rows:
            print(f"{variant:6} {_not_released(variant)}")
    for entry in entries:
        print(f"\n{entry.place() or entry.name}")
        print(f"  SHA-256 {entry.sha256}")
        print(f"  trained on: {entry.training}")
        if entry.measured_on:
            print(f"  Dice on: {entry.measured_on}")


@weights.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="A variant, or a file as 'weights' lists it.")],
    source: Annotated[
        str | None,
        typer.Option("--from", help="A mirror's address, or a folder (a USB stick) with the file."),
    ] = None,
) -> None:
    """Download released weights into the cache, where every command finds them.

    Size and SHA-256 are checked before a file appears under its name. An
    interrupted download starts again.

    Example: rwkv-edge weights fetch small --from /media/usb
    """
    from rwkv_edge.config import VARIANTS
    from rwkv_edge.errors import DownloadError, UsageError
    from rwkv_edge.weights.registry import load_registry

    entries = load_registry()
    chosen = [entry for entry in entries if name in (entry.variant, entry.name)]
    if not chosen and name not in VARIANTS:
        known = ", ".join([*VARIANTS, *(entry.name for entry in entries)])
        raise UsageError(f"'{name}': choose one of {known}")
    if not chosen:
        raise DownloadError(f"{name}: {_not_released(name)}")
    for entry in chosen:
        _fetch(entry, source)
    print(f"next: rwkv-edge eval --variant {chosen[0].variant} --data DATA")


def _fetch(entry: Entry, source: str | None) -> None:
    from rwkv_edge.cache import cache_folder
    from rwkv_edge.cli.console import byte_bar
    from rwkv_edge.download import fetch, join
    from rwkv_edge.errors import DownloadError

    place = entry.place()
    if place is not None and entry.is_intact(place):
        print(f"{entry.name}: is here already, {place}")
        return
    address = join(source, entry.name) if source else entry.url
    if address is None:
        raise DownloadError(f"{entry.name}: {_not_released(entry.variant)}")
    cache_folder()  # this user's alone
    with byte_bar(entry.name) as on_bytes:
        fetch(address, entry.cached, sha256=entry.sha256, size=entry.size, on_bytes=on_bytes)
    print(f"{entry.name}: {entry.cached}, SHA-256 verified")


def _state(entry: Entry) -> str:
    place = entry.place()
    if place is None:
        if entry.url is None:
            return _not_released(entry.variant)
        return f"released; rwkv-edge weights fetch {entry.variant}"
    kind = "ships" if place == entry.shipped else "fetched"
    return f"{kind}, SHA-256 {'verified' if entry.is_intact(place) else 'WRONG: reinstall it'}"


def _not_released(variant: str) -> str:
    return f"not released; train it with: rwkv-edge train --variant {variant} --data DATA"
