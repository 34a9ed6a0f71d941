"""`rwkv-edge run`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
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
from rwkv_edge.cli.outputs import writable_file
from rwkv_edge.cli.ranges import at_least, between
from rwkv_edge.config import DEFAULT_CONFIDENCE

if TYPE_CHECKING:
    from rwkv_edge.runtime import Runner
    from rwkv_edge.video import Source, Statistics
    from rwkv_edge.video.sink import Sink

_OVERLAY_VIDEO, _OVERLAYS, _MASKS = _RESULTS = ("overlay.mp4", "overlays", "masks")
_SUMMARY = "summary.json"


def run(
    source: Annotated[
        str,
        typer.Option(
            help="Image, folder or quoted pattern of images, video file, or a camera's index."
        ),
    ],
    weights: WeightsOption = None,
    model: ModelOption = None,
    variant: VariantOption = None,
    backend: BackendOption = "auto",
    imgsz: ImgszOption = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/run/NAME.")
    ] = None,
    name: NameOption = "exp",
    save: Annotated[
        bool, typer.Option(help="Write overlay.mp4, or overlays/*.jpg for images.")
    ] = True,
    save_masks: Annotated[
        bool,
        typer.Option(
            "--save-masks", help="Write masks/*.png: 0 and 255, or the index of each class."
        ),
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Show the overlay in a window; q or Esc ends.")
    ] = False,
    json: Annotated[
        str | None,
        typer.Option(
            help="Write one JSON line per frame to this file, or to - (standard output).",
            callback=writable_file,
        ),
    ] = None,
    conf: Annotated[
        float,
        typer.Option(help="Probability from which a pixel counts, 0 to 1.", callback=between(0, 1)),
    ] = DEFAULT_CONFIDENCE,
    alpha: Annotated[
        float, typer.Option(help="Opacity of the fill, 0 to 1.", callback=between(0, 1))
    ] = 0.35,
    vid_stride: Annotated[int, typer.Option(help="Take the first of every so many frames.")] = 1,
    max_frames: Annotated[
        int | None, typer.Option(help="Stop after so many frames.", callback=at_least(1))
    ] = None,
) -> None:
    """Segment images, a video or a camera; write overlays and a summary.

    The output folder gets overlay.mp4 for a video or a camera, overlays/*.jpg
    for images, and summary.json. Ctrl-C ends a run and keeps what it has.
    What cannot be read is left out and named, and the exit code is 1 then.

    Example: rwkv-edge run --source colonoscopy.mp4 --json frames.jsonl
    """
    from rwkv_edge.errors import BackendError, SourceError, UsageError

    if output is not None and output.suffix.lower() in (".mp4", ".mkv", ".avi", ".mov"):
        raise UsageError(f"--output {output}: give a folder; the video in it is overlay.mp4")

    from itertools import islice

    from rwkv_edge.cli.console import progress_bar
    from rwkv_edge.cli.loading import open_runner
    from rwkv_edge.files import check_writable, make_folder, new_run_folder, write_json
    from rwkv_edge.video import Pipeline, Statistics, open_source
    from rwkv_edge.video.sink import JsonLines, WindowSink

    statistics = Statistics()
    stopped: KeyboardInterrupt | SourceError | None = None
    writes = save or save_masks or output is not None
    with ExitStack() as stack:
        # what can be refused is refused before the model is loaded and anything is written
        frames = stack.enter_context(open_source(source, vid_stride=vid_stride))
        if writes:
            check_writable(output or Path("runs/run"))
        if output is not None:
            _refuse_overwriting(frames, *(output / result for result in _RESULTS))
            _refuse_strangers(output)
        if json not in (None, "-"):
            _refuse_overwriting(frames, Path(json))
        sinks: list[Sink] = []
        if show:
            sinks.append(stack.enter_context(WindowSink(still=frames.kind == "images")))
        runner = stack.enter_context(open_runner(weights, model, variant, backend, imgsz))
        lines = stack.enter_context(JsonLines(json)) if json is not None else None
        folder = None
        if writes:
            folder = make_folder(output) if output else new_run_folder("run", name)
            for sink in _file_sinks(frames, folder, save, save_masks):
                sinks.append(stack.enter_context(sink))
        pipeline = Pipeline(
            runner,
            runner.info.input_size,
            runner.info.names,
            backend=runner.backend,
            confidence=conf,
            alpha=alpha,
            sinks=sinks,
            draw=save or show,
        )
        total = min((n for n in (frames.count, max_frames) if n is not None), default=None)
        try:
            with progress_bar("segmenting", total) as advance:
                for result in pipeline.run(islice(frames, max_frames)):
                    statistics.add(result)
                    if lines is not None:
                        lines.write(result)
                    advance()
        except (KeyboardInterrupt, SourceError) as error:
            stopped = error  # what was done so far is kept and summed up

    for problem in frames.problems[: None if stopped else -1]:
        print(f"warning: {problem}", file=sys.stderr)
    if statistics.frames:
        summary = {
            "source": source,
            "confidence": conf,
            "vid_stride": vid_stride,
            "interrupted": isinstance(stopped, KeyboardInterrupt),
            **describe(statistics, runner, frames),
        }
        print_summary(summary, to_stderr=json == "-")
        if folder is not None:
            write_json(folder / _SUMMARY, summary)
            print(f"results: {folder}", file=sys.stderr if json == "-" else sys.stdout)
    if isinstance(stopped, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        raise typer.Exit(130)
    if stopped is not None:
        raise stopped
    if frames.problems:  # the results are there, but not of everything that was asked for
        raise SourceError(frames.problems[-1])
    if 0 < statistics.frames == statistics.invalid_frames:
        raise BackendError("the network's output was invalid on every frame: check the model")


def _file_sinks(source: Source, folder: Path, save: bool, save_masks: bool) -> Iterator[Sink]:
    from rwkv_edge.video.sink import MaskSink, OverlaySink, VideoSink

    if save and source.kind == "images":
        yield OverlaySink(folder / _OVERLAYS)
    elif save:
        yield VideoSink(folder / _OVERLAY_VIDEO, source.fps)
    if save_masks:
        yield MaskSink(folder / _MASKS)


def _refuse_overwriting(source: Source, *targets: Path) -> None:
    from rwkv_edge.errors import OutputError

    places = {place for path in source.files for place in (path.resolve(), path.resolve().parent)}
    for target in targets:
        if target.resolve() in places:
            raise OutputError(f"{target} holds the source: choose another place")


def _refuse_strangers(output: Path) -> None:
    """Refuse pictures that no run of ours wrote: `masks` may hold the labels of a data set."""
    from rwkv_edge.errors import OutputError

    if (output / _SUMMARY).is_file():
        return
    for folder in (output / _OVERLAYS, output / _MASKS):
        if folder.is_dir() and any(folder.iterdir()):
            raise OutputError(f"{folder} holds files of another origin: choose another place")


def describe(statistics: Statistics, runner: Runner, source: Source) -> dict[str, Any]:
    """Return what `summary.json` says about a run: its numbers, the model, the versions."""
    import platform

    import av
    import cv2
    import numpy as np

    from rwkv_edge import __version__

    return {
        **statistics.summary(),
        "problems": source.problems,
        "backend": runner.backend,
        "model": {
            "variant": runner.info.variant,
            "weights": runner.info.source,
            "names": list(runner.info.names),
            "input_size": list(runner.info.input_size),
        },
        "versions": {
            "rwkv_edge": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "av": av.__version__,
        },
    }


def print_summary(summary: dict[str, Any], *, to_stderr: bool = False) -> None:
    """Print latency percentiles by stage, then counts, from what `describe` returns."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table("latency, ms", box=SIMPLE_HEAD)
    for rank in summary["latency_ms"]["total"]:
        table.add_column(rank, justify="right")
    for stage, values in summary["latency_ms"].items():
        if stage == "total":
            table.add_section()
        table.add_row(stage, *(f"{value:.1f}" for value in values.values()))
    console = Console(stderr=to_stderr)
    console.print(table)
    counts = (
        f"{summary['frames']} frames in {summary['seconds']:.1f} s, {summary['fps']:.1f} a second, "
        f"{summary['frames_with_finding']} with a finding"
    )
    if summary["invalid_frames"]:
        counts += f", {summary['invalid_frames']} with INVALID OUTPUT"
    if summary["problems"]:
        counts += f", {len(summary['problems'])} warnings"
    console.print(counts, highlight=False, soft_wrap=True)
    console.print(summary["backend"], highlight=False, soft_wrap=True)
