"""`rwkv-edge synth`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rwkv_edge.cli.ranges import above, at_least, between

_COUNT, _SIZE, _CLIP_SIZE = 100, (256, 256), (480, 640)
_LONGEST_CLIP = 600.0


def synth(
    output: Annotated[Path, typer.Option(help="Folder to write; must be new or empty.")],
    count: Annotated[
        int | None,
        typer.Option(help=f"Number of labelled images. Default: {_COUNT}.", callback=at_least(1)),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Pixels: SIDE or HEIGHTxWIDTH. Default: 256, of a clip 480x640."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pixels.")] = 0,
    polyps: Annotated[
        int | None, typer.Option(help="In every scene, 0 to 3. Default: drawn, mostly 1.")
    ] = None,
    clip: Annotated[
        float | None,
        typer.Option(
            help="Write a clip of so many seconds instead of images.",
            callback=above(0, at_most=_LONGEST_CLIP),
        ),
    ] = None,
    fps: Annotated[
        float, typer.Option(help="Frames a second of a clip.", callback=between(1, 240))
    ] = 25.0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what synth wrote to the folder before.")
    ] = False,
) -> None:
    """Render labelled endoscopy: no patients, no annotators, exact masks.

    Writes images/ and masks/, which train takes as --extra; with --clip,
    clip.mp4 and the mask of each frame in masks/.

    Example: rwkv-edge synth --output rendered --count 1000 --size 256
    """
    from rwkv_edge.data.synth.render import check_arguments
    from rwkv_edge.errors import OutputError, UsageError
    from rwkv_edge.files import check_writable

    if clip is not None and count is not None:
        raise UsageError(
            "--clip and --count exclude each other: a clip has seconds times fps images"
        )
    shape = _parse_size(size) if size else (_SIZE if clip is None else _CLIP_SIZE)
    check_arguments(seed, shape, polyps)
    check_writable(output)
    if output.is_dir() and any(output.iterdir()):
        if not force:
            raise OutputError(f"{output} is not empty: add --force, or choose another --output")
        _remove_earlier(output)

    if clip is None:
        _write_images(output, count or _COUNT, shape, seed, polyps)
    else:
        _write_clip(output, max(1, round(clip * fps)), shape, seed, fps, polyps)


def _write_images(
    output: Path, count: int, size: tuple[int, int], seed: int, polyps: int | None
) -> None:
    from rwkv_edge.cli.console import progress_bar
    from rwkv_edge.data.synth import write_dataset

    with progress_bar("rendering", count) as advance:
        write_dataset(output, count, size, seed, lambda _: advance(), polyps)
    print(f"wrote {count} images with masks to {output}")
    print(f"next: rwkv-edge train --data YOUR_DATA --extra {output}")


def _write_clip(
    output: Path, frames: int, size: tuple[int, int], seed: int, fps: float, polyps: int | None
) -> None:
    from contextlib import closing

    from rwkv_edge.cli.console import progress_bar
    from rwkv_edge.data.synth import render_clip
    from rwkv_edge.files import make_folder, write_image
    from rwkv_edge.video.writer import VideoWriter

    masks = make_folder(output / "masks")
    path = output / "clip.mp4"
    with closing(VideoWriter(path, fps)) as video, progress_bar("rendering", frames) as advance:
        for index, frame in enumerate(render_clip(seed, frames, size, fps, polyps)):
            video.write(frame.image, index / fps)
            write_image(masks / f"{index:06d}.png", frame.mask)
            advance()
    print(f"wrote {path}, {frames} frames, with their masks in {masks}")
    print(f"next: rwkv-edge run --source {path}")


def _remove_earlier(output: Path) -> None:
    """Remove what synth writes and nothing else; leftovers would mix with the new images."""
    digits = "[0-9]" * 6
    for pattern in (f"images/{digits}.jpg", f"masks/{digits}.png", "clip.mp4"):
        for path in output.glob(pattern):
            path.unlink()


def _parse_size(text: str) -> tuple[int, int]:
    from rwkv_edge.errors import UsageError

    sides = text.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdecimal() for side in sides):
        raise UsageError(f"--size {text}: give SIDE or HEIGHTxWIDTH, for example 256 or 480x640")
    return int(sides[0]), int(sides[-1])
