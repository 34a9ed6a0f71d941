"""`rwkv-edge synth`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from rwkv_edge.cli.ranges import above, at_least, between

_COUNT, _SIZE, _CLIP_SIZE = 100, (256, 256), (480, 640)
_LONGEST_CLIP = 600.0
_RECORD = "synth.json"


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
        bool,
        typer.Option("--force", help=f"Replace what synth wrote there before, by its {_RECORD}."),
    ] = False,
) -> None:
    """Render labelled endoscopy: no patients, no annotators, exact masks.

    Writes images/ and masks/, which train takes as --extra; with --clip,
    clip.mp4 and the mask of each frame in masks/. What was written is kept in
    synth.json, and --force removes that alone: files of yours stay.

    Example: rwkv-edge synth --output rendered --count 1000 --size 256
    """
    from rwkv_edge.data.synth.render import check_arguments
    from rwkv_edge.errors import OutputError, UsageError
    from rwkv_edge.files import check_writable, make_folder, write_json

    if clip is not None and count is not None:
        raise UsageError(
            "--clip and --count exclude each other: a clip has seconds times fps images"
        )
    shape = _parse_size(size) if size else (_SIZE if clip is None else _CLIP_SIZE)
    check_arguments(seed, shape, polyps)
    check_writable(output)
    total = (count or _COUNT) if clip is None else max(1, round(clip * fps))
    if output.is_dir() and any(output.iterdir()):
        if not force:
            raise OutputError(f"{output} is not empty: add --force, or choose another --output")
        _remove_earlier(output, total, is_clip=clip is not None)
    # before the pictures, so that --force can follow a run that was interrupted
    record = {"clip": clip is not None, "count": total, "seed": seed}
    write_json(make_folder(output) / _RECORD, record)

    if clip is None:
        _write_images(output, total, shape, seed, polyps)
    else:
        _write_clip(output, total, shape, seed, fps, polyps)


def _write_images(
    output: Path, count: int, size: tuple[int, int], seed: int, polyps: int | None
) -> None:
    from rwkv_edge.cli.console import progress_bar
    from rwkv_edge.data.synth import write_dataset

    with progress_bar("rendering", count) as advance:
        write_dataset(output, count, size, seed, lambda _: advance(), polyps)
    print(f"wrote {count} images with masks to {output}")
    print(f"next: rwkv-edge train --data YOUR_DATA --extra {shlex.quote(str(output))}")


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
    print(f"next: rwkv-edge run --source {shlex.quote(str(path))}")


def _remove_earlier(output: Path, count: int, *, is_clip: bool) -> None:
    """Remove what synth wrote and nothing else; leftovers would mix with the new images.

    Raises:
        OutputError: what it wrote is not known, or a file of someone else is in the way.
    """
    from rwkv_edge.errors import OutputError

    try:
        record = json.loads((output / _RECORD).read_text(encoding="utf-8"))
        earlier = _files(output, int(record["count"]), is_clip=bool(record["clip"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{output} has no {_RECORD} that says what synth wrote there: remove that yourself, "
            "or choose another --output"
        ) from error
    foreign = sorted(_files(output, count, is_clip=is_clip) - earlier)
    if foreign:
        raise OutputError(
            f"{foreign[0]} was not written by synth and would be replaced: move it away, "
            "or choose another --output"
        )
    for path in earlier:
        path.unlink()


def _files(output: Path, count: int, *, is_clip: bool) -> set[Path]:
    """Return the files here that have the names which synth gives to so many images or frames."""
    paths = [output / "masks" / f"{index:06d}.png" for index in range(count)]
    if is_clip:
        paths.append(output / "clip.mp4")
    else:
        paths += [output / "images" / f"{index:06d}.jpg" for index in range(count)]
    return {path for path in paths if path.is_file()}


def _parse_size(text: str) -> tuple[int, int]:
    from rwkv_edge.errors import UsageError

    sides = text.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdecimal() for side in sides):
        raise UsageError(f"--size {text}: give SIDE or HEIGHTxWIDTH, for example 256 or 480x640")
    return int(sides[0]), int(sides[-1])
