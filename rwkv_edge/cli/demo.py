"""`rwkv-edge demo`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rwkv_edge.cli.loading import BackendOption
from rwkv_edge.cli.ranges import at_least, between

if TYPE_CHECKING:
    from rwkv_edge.preprocess import UInt8Array
    from rwkv_edge.runtime import Runner
    from rwkv_edge.video import Result, Source, Statistics

_TILES = 12
_RESULTS = {
    "clip.mp4": "the rendered clip",
    "overlay.mp4": "what the network finds in it",
    "contact_sheet.png": "frames with the network's mask filled, the true outline in white",
    "summary.json": "Dice and latency",
}


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    seconds: Annotated[
        float, typer.Option(help="Length of the clip, 0.1 to 60.", callback=between(0.1, 60))
    ] = 6.0,
    seed: Annotated[
        int, typer.Option(help="Another seed, another colon.", callback=at_least(0))
    ] = 1,
    backend: BackendOption = "auto",
) -> None:
    """Render an endoscopy clip, segment it with the shipped weights.

    The output folder gets the clip, the overlay video, a contact sheet with
    the true outlines in white, and a summary with the Dice of each frame.

    Example: rwkv-edge demo --output demo --seconds 6
    """
    from rwkv_edge.cli.clip import FPS, write_rendered_clip
    from rwkv_edge.cli.loading import open_runner
    from rwkv_edge.cli.run import describe, print_summary
    from rwkv_edge.drawing import picture_grid
    from rwkv_edge.files import check_writable, make_folder, write_image, write_json
    from rwkv_edge.video import Statistics, open_source

    check_writable(output)
    with open_runner(backend=backend) as runner:  # before the rendering, which takes long
        make_folder(output)
        truth = write_rendered_clip(output / "clip.mp4", seed, round(seconds * FPS))
        statistics = Statistics()
        with open_source(str(output / "clip.mp4")) as source:
            dice, tiles = _segment(runner, source, output / "overlay.mp4", truth, statistics)
        summary = {"seed": seed, "dice": dice, **describe(statistics, runner, source)}
    write_image(output / "contact_sheet.png", picture_grid(tiles, columns=4, tile_size=320))
    write_json(output / "summary.json", summary)
    print_summary(summary)
    print(_verdict(dice))
    print()
    for name, words in _RESULTS.items():
        print(f"{output / name}: {words}")
    print()
    print("next, try:")
    print(f"  rwkv-edge run --source {output / 'clip.mp4'} --save-masks --json -")
    print("  rwkv-edge run --source YOUR_VIDEO.mp4")
    print("  rwkv-edge run --source 0 --show    (a camera, in a window)")


def _segment(
    runner: Runner,
    source: Source,
    overlay: Path,
    truth: Sequence[UInt8Array],
    statistics: Statistics,
) -> tuple[dict[str, Any], list[tuple[UInt8Array, str]]]:
    """Run the clip as `rwkv-edge run` would; return the Dice figures and captioned tiles."""
    import numpy as np

    from rwkv_edge.cli.console import progress_bar
    from rwkv_edge.metrics import PixelCounts
    from rwkv_edge.video import Pipeline
    from rwkv_edge.video.sink import VideoSink

    shown = set(np.linspace(0, len(truth) - 1, min(_TILES, len(truth))).round().astype(int))
    with_polyp, false_positives, tiles = [], 0, []
    with VideoSink(overlay, source.fps) as sink:
        pipeline = Pipeline(
            runner,
            runner.info.input_size,
            runner.info.names,
            backend=runner.backend,
            sinks=[sink],
        )
        with progress_bar("segmenting", source.count) as advance:
            for result in pipeline.run(source):
                statistics.add(result)
                mask = truth[result.frame.index]
                dice = PixelCounts.of(result.mask > 0, mask > 0).dice
                if mask.any():
                    with_polyp.append(dice)
                else:
                    false_positives += bool(result.components)
                if result.frame.index in shown:
                    tiles.append(_tile(result, mask, dice))
                advance()
    return {
        "mean": round(float(np.mean(with_polyp)), 4) if with_polyp else None,
        "frames_with_polyp": len(with_polyp),
        "frames_without_polyp": len(truth) - len(with_polyp),
        "false_positive_frames": false_positives,
    }, tiles


def _tile(result: Result, truth: UInt8Array, dice: float) -> tuple[UInt8Array, str]:
    from rwkv_edge.drawing import TRUTH_COLOUR, draw_contour, draw_mask

    picture = draw_mask(result.frame.image, result.mask)
    draw_contour(picture, truth, TRUTH_COLOUR, thickness=2)
    return picture, f"{result.frame.time_s:.1f} s   Dice {dice:.2f}"


def _verdict(dice: dict[str, Any]) -> str:
    seen, unseen = dice["frames_with_polyp"], dice["frames_without_polyp"]
    words = []
    if seen:
        words.append(f"mean Dice {dice['mean']:.3f} over {seen} frames that show a polyp")
    if unseen:
        words.append(f"a false finding on {dice['false_positive_frames']} of {unseen} without one")
    return "; ".join(words) + ". The clip is rendered: this says nothing about patients."
