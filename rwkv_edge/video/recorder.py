"""Records the live screen, and the clean picture beside it, in files that survive a kill.

File names are random and nothing about patient, device or time is written into the files. Beware of
what the picture itself shows: endoscopy processors burn the patient's name in.
"""

from __future__ import annotations

import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from rwkv_edge.errors import OutputError
from rwkv_edge.files import make_folder
from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.video.live import Controls, LiveFrame
from rwkv_edge.video.writer import VideoWriter

_MB = 1_000_000
_LOOK_S = 0.5  # how often the disk and the files are looked at


@dataclass(frozen=True)
class RecordingLimits:
    """When a file is finished and another begun, and when recording stops."""

    file_mb: float = 1000.0
    file_minutes: float = 10.0
    floor_mb: float = 500.0
    """Free space below which nothing more is written."""


class Recorder:
    """A live sink that records while `View.recording` is set."""

    def __init__(
        self,
        folder: Path,
        controls: Controls,
        *,
        clean: bool = False,
        limits: RecordingLimits | None = None,
    ) -> None:
        """Make the folder; files come with the first picture.

        Args:
            folder: gets NAME-overlay.mp4, and NAME-clean.mp4 with `clean`.
            controls: start and stop the recording.
            clean: also record the picture without the overlay.
            limits: of files and disk.

        Raises:
            OutputError: the folder cannot be made or written, or its disk is too full already.
        """
        self._folder = make_folder(folder)
        self._limits = limits or RecordingLimits()
        self._controls, self._clean = controls, clean
        self._writers: dict[str, VideoWriter] = {}
        self._size = (0, 0)
        self._began = self._looked = 0.0
        self.recording = False
        self.notice = ""
        """Why recording stopped; empty while nothing is wrong."""
        self.files: list[Path] = []
        if self._free_mb() < self._limits.floor_mb:
            raise OutputError(
                f"{folder}: {self._free_mb():.0f} MB are free, and recording keeps "
                f"{self._limits.floor_mb:g} MB free; make room or lower --record-free-mb"
            )

    def write(self, frame: LiveFrame) -> None:
        """Record a picture. A disk that fails stops the recording and nothing else."""
        if not self._controls.view.recording:
            self._stop("")
            return
        if self.notice:
            return  # until it is switched off and on again
        try:
            self._rotate(frame.image)
            if not self.notice:
                self._append(frame)
        except OutputError as error:
            self._stop(f"RECORDING STOPPED: {error}")

    def _rotate(self, image: UInt8Array) -> None:
        """Begin a new file where the old one is full or the picture has another size."""
        now = time.monotonic()
        size = (image.shape[0], image.shape[1])
        if self._writers and (
            size != self._size or now - self._began > 60 * self._limits.file_minutes
        ):
            self._finish()
        if now - self._looked > _LOOK_S:
            self._looked = now
            if self._free_mb() < self._limits.floor_mb:
                self._stop("RECORDING STOPPED: the disk is almost full")
                return
            if any(_megabytes(w.path) > self._limits.file_mb for w in self._writers.values()):
                self._finish()
        if not self._writers:
            self._size, self._began = size, now
            name = secrets.token_hex(8)
            for kind in ("overlay", "clean") if self._clean else ("overlay",):
                path = self._folder / f"{name}-{kind}.mp4"
                self._writers[kind] = VideoWriter(path)
                self.files.append(path)

    def _append(self, frame: LiveFrame) -> None:
        seconds = time.monotonic() - self._began
        self._writers["overlay"].write(frame.image, seconds)
        if "clean" in self._writers and frame.frame is not None:
            self._writers["clean"].write(frame.frame.image, seconds)
        self.recording = True

    def _stop(self, notice: str) -> None:
        self.recording, self.notice = False, notice
        try:
            self._finish()
        except OutputError as error:
            self.notice = notice or f"RECORDING STOPPED: {error}"

    def _finish(self) -> None:
        """Close the files, each whatever the other does."""
        problem: OutputError | None = None
        while self._writers:
            try:
                self._writers.popitem()[1].close()
            except OutputError as error:
                problem = error
        if problem is not None:
            raise problem

    def _free_mb(self) -> float:
        try:
            return shutil.disk_usage(self._folder).free / _MB
        except OSError as error:
            raise OutputError(f"{self._folder}: {error.strerror}") from error

    def close(self) -> None:
        """Finish the files.

        Raises:
            OutputError: the disk is full.
        """
        self.recording = False
        self._finish()


def _megabytes(path: Path) -> float:
    try:
        return path.stat().st_size / _MB
    except OSError:
        return 0.0
