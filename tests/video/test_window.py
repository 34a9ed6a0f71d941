from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rwkv_edge.errors import OutputError
from rwkv_edge.video.window import check_display

SCREEN = (1000, 700)
LOOKS = 300
WINDOW = """
import select
import sys
import numpy as np
from rwkv_edge.video.window import NO_KEY, Window
window = Window()
while not select.select([sys.stdin], [], [], 0)[0]:
    assert window.show(np.full((HEIGHT, WIDTH, 3), (0, 200, 0), np.uint8), 50) == NO_KEY
    print("shown", window.is_open, flush=True)
window.close()
"""


def test_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OutputError, match="--show"):
        check_display()


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A real X server without a monitor: the display, and the file that holds its pixels."""
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb: sudo apt-get install xvfb")
    command = ["Xvfb", "-displayfd", "1", "-fbdir", str(tmp_path), "-screen", "0"]
    size = f"{SCREEN[0]}x{SCREEN[1]}x24"
    with subprocess.Popen([*command, size], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        number = server.stdout.readline().strip()
        assert number, "Xvfb did not start"
        yield f":{number}", tmp_path / "Xvfb_screen0"
        server.terminate()


@pytest.mark.parametrize("size", [(480, 640), (2160, 3840)])
def test_a_window_opens_in_its_pictures_size(
    size: tuple[int, int], screen: tuple[str, Path]
) -> None:
    display, pixels = screen
    script = WINDOW.replace("HEIGHT", str(size[0])).replace("WIDTH", str(size[1]))
    environment = os.environ | {"DISPLAY": display, "QT_QPA_PLATFORM": "xcb"}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        # a large one must leave the screen some room
        green, least = 0, 0.95 * min(size[0] * size[1], 0.9 * SCREEN[0] * SCREEN[1])
        for _ in range(LOOKS):  # on a busy machine the window comes late
            assert program.stdout.readline() == "shown True\n", program.stderr.read()
            content = np.frombuffer(pixels.read_bytes(), np.uint8)
            content = content[-SCREEN[0] * SCREEN[1] * 4 :].reshape(SCREEN[1], SCREEN[0], 4)
            green = (content[..., :3] == (0, 200, 0)).all(2).sum()
            if green >= least:
                break
        program.communicate("\n", timeout=20)
    assert green >= least
