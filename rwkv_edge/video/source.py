"""From what a user names to a source: image, folder or pattern of images, video, camera."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from rwkv_edge.data.reading import IMAGE_SUFFIXES
from rwkv_edge.errors import SourceError, UsageError
from rwkv_edge.video.base import Frame, Source
from rwkv_edge.video.camera import Camera
from rwkv_edge.video.image_files import ImageFiles
from rwkv_edge.video.redact import redact
from rwkv_edge.video.video_file import VideoFile

__all__ = ["Frame", "Source", "open_source"]

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".ts", ".wmv"})


def open_source(text: str, *, vid_stride: int = 1) -> Source:
    """Open what a user named.

    Args:
        text: an image, a folder or a glob pattern of images, a video file, or a camera's index.
            A file that is called like a number is reached as `./0`.
        vid_stride: deliver the first of every `vid_stride` frames.

    Raises:
        UsageError: the stride is below 1.
        SourceError: there is no such thing, it is empty, or it cannot be decoded.
    """
    if vid_stride < 1:
        raise UsageError(f"--vid-stride {vid_stride}: it must be 1 or more")
    if "://" in text:  # not echoed: such addresses carry passwords
        raise SourceError("addresses are for rwkv-edge stream; give a file or a camera index")
    if text.isdecimal():
        return Camera(int(text), vid_stride)
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise SourceError(f"{text}: {str(error).rstrip('.').lower()}") from error
    if path.is_dir():
        return ImageFiles(_images_among(list(path.iterdir()), f"folder {path}"), vid_stride)
    if path.exists():  # before glob: [ and ] are allowed in file names
        is_image = path.suffix.lower() in IMAGE_SUFFIXES
        return ImageFiles([path], vid_stride) if is_image else VideoFile(path, vid_stride)
    if glob.has_magic(text):
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
        return ImageFiles(_images_among(matches, f"pattern {text}"), vid_stride)
    raise SourceError(
        f"no such source: {redact(text)}; give an image, a folder, a pattern, a video or a "
        "camera's index"
    )


def _images_among(paths: Sequence[Path], place: str) -> list[Path]:
    # macOS leaves '._name.jpg' beside 'name.jpg'; neither these nor hidden files are pictures
    files = sorted(path for path in paths if path.is_file() and not path.name.startswith("."))
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
        hint = f"; for a video name the file, for example {videos[0]}" if videos else ""
        raise SourceError(f"no images in {place}{hint}")
    return sorted(images, key=_natural_order)


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort frame2 before frame10."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
