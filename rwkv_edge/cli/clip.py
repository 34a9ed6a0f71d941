"""A rendered clip as a file, for commands that need something to look at."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from rwkv_edge.cli.console import progress_bar
from rwkv_edge.data.synth import render_clip
from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.video.writer import VideoWriter

FPS = 15
_SIZE = (480, 640)


def write_rendered_clip(path: Path, seed: int, count: int) -> list[UInt8Array]:
    """Write `count` frames as MP4 and return the true masks, (h, w) uint8 of 0 and 255."""
    truth = []
    with closing(VideoWriter(path, FPS)) as writer, progress_bar("rendering", count) as advance:
        for index, frame in enumerate(render_clip(seed, count, _SIZE, FPS, polyps=1)):
            writer.write(frame.image, index / FPS)
            truth.append(frame.mask)
            advance()
    return truth
