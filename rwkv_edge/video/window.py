"""A window on the screen, drawn by OpenCV."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2

from rwkv_edge.errors import OutputError
from rwkv_edge.preprocess import UInt8Array

ESCAPE, NO_KEY = 27, -1
_TITLE = "rwkv-edge"
_LARGEST = (1600, 900)
"""Width and height in pixels that a window opens with at most; the user may draw it larger."""
_FONTS = "/usr/share/fonts"


class Window:
    """Opens as large as its first picture, and may be drawn to any size.

    Raises:
        OutputError: this OpenCV has no windows, or there is no display.
    """

    def __init__(self) -> None:
        check_display()
        # OpenCV points Qt to fonts that its wheel does not have, and Qt complains with each window
        if not Path(os.environ.get("QT_QPA_FONTDIR", "")).is_dir():
            os.environ["QT_QPA_FONTDIR"] = _FONTS
        style = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        cv2.namedWindow(_TITLE, style)
        self._sized = False

    def show(self, image: UInt8Array, wait_ms: int = 1) -> int:
        """Show a picture, (h, w, 3) uint8 BGR, and return the key that was pressed, or NO_KEY."""
        if not self._sized:
            height, width = image.shape[:2]
            part = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
            cv2.resizeWindow(_TITLE, round(width * part), round(height * part))
            self._sized = True
        cv2.imshow(_TITLE, image)
        return cv2.waitKey(wait_ms)

    def wait(self, wait_ms: int) -> int:
        """Wait for a key so long; return it, or NO_KEY."""
        return cv2.waitKey(wait_ms)

    @property
    def is_open(self) -> bool:
        """Whether the user has not closed it."""
        return cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()


def check_display() -> None:
    """Try a window in another process, because Qt aborts the whole process without a display.

    Raises:
        OutputError: this OpenCV has no windows, or there is no display.
    """
    attempt = "import cv2; cv2.namedWindow('rwkv-edge'); cv2.destroyAllWindows()"
    trial = subprocess.run([sys.executable, "-c", attempt], capture_output=True, check=False)
    if trial.returncode > 0:
        raise OutputError(
            "this OpenCV has no windows: install opencv-python instead of opencv-python-headless, "
            "or leave out --show (stream: give --headless)"
        )
    if trial.returncode < 0:
        raise OutputError(
            "there is no display to show a window on: run it in a desktop session, or leave out "
            "--show and watch the saved video (stream: give --headless)"
        )
