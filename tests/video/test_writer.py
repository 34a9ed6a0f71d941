from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rwkv_edge.errors import OutputError
from rwkv_edge.video import writer
from rwkv_edge.video.writer import VideoWriter
from tests.video.clips import Image, number_of, numbered, read_clip


def write(path: Path, images: list[Image], fps: float = 10) -> Path:
    with closing(VideoWriter(path, fps)) as video:
        for index, image in enumerate(images):
            video.write(image, index / fps)
    return path


def boxes(path: Path) -> list[bytes]:
    """The types of an MP4's outermost boxes."""
    content, place, found = path.read_bytes(), 0, []
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        found.append(content[place + 4 : place + 8])
        place += size
    return found


def test_browsers_can_play_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", numbered(25))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.frames == 25
        assert float(stream.duration * stream.time_base) == pytest.approx(2.5)
    # one index and no fragments: that is what players can seek in
    assert boxes(path).count(b"moov") == 1
    assert b"moof" not in boxes(path)
    assert [number_of(image) for _, image in read_clip(path)] == list(range(25))


def test_times_are_kept(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.51, 2.0]
    with closing(VideoWriter(tmp_path / "a.mp4", 25)) as video:
        for image, time_s in zip(numbered(5), times, strict=True):
            video.write(image, time_s)
    assert [time_s for time_s, _ in read_clip(tmp_path / "a.mp4")] == pytest.approx(times, abs=1e-4)


def test_times_that_stand_still_or_fall_do_not_fail(tmp_path: Path) -> None:
    with closing(VideoWriter(tmp_path / "a.mp4")) as video:
        for image, time_s in zip(numbered(4), (0.5, 0.5, 0.1, 0.6), strict=True):
            video.write(image, time_s)
    frames = read_clip(tmp_path / "a.mp4")
    assert [number_of(image) for _, image in frames] == [0, 1, 2, 3]
    assert np.all(np.diff([time_s for time_s, _ in frames]) > 0)


@pytest.mark.parametrize("colour", [(200, 40, 60), (60, 40, 200), (40, 200, 60)])
def test_colours_survive(colour: tuple[int, int, int], tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [np.full((64, 64, 3), colour, np.uint8)] * 3)
    _, image = read_clip(path)[-1]
    np.testing.assert_allclose(image[32, 32].astype(int), colour, atol=6)
    # the same through a reader that is not ours
    _, seen = cv2.VideoCapture(str(path)).read()
    np.testing.assert_allclose(seen[32, 32].astype(int), colour, atol=6)


def test_odd_size_is_padded(tmp_path: Path) -> None:
    image = np.full((49, 67, 3), 180, np.uint8)
    _, seen = read_clip(write(tmp_path / "a.mp4", [image]))[0]
    assert seen.shape == (50, 68, 3)
    assert seen.min() > 170  # a black edge would show


def test_another_size_is_letterboxed_into_the_first(tmp_path: Path) -> None:
    tall = np.full((96, 64, 3), 200, np.uint8)
    (_, first), (_, second) = read_clip(write(tmp_path / "a.mp4", [numbered(1)[0], tall]))
    assert first.shape == second.shape == (48, 64, 3)
    assert second[24, 32].min() > 180  # 48 x 32 in the middle
    assert second[:, :12].max() < 20
    assert second[:, -12:].max() < 20


def test_killed_file_is_playable(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    script = (
        "import sys, numpy, pathlib; from rwkv_edge.video.writer import VideoWriter\n"
        "noise = numpy.random.default_rng(0).integers(0, 255, (9, 120, 160, 3), numpy.uint8)\n"
        "video = VideoWriter(pathlib.Path(sys.argv[1]), 10)\n"
        "for index in range(10_000):\n"
        "    video.write(noise[index % 9], index / 10)\n"
        "    print(index, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    last = 0
    for line in process.stdout:
        last = int(line)
        if last == 55:
            process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(read_clip(path)) >= last - 15  # all but the fragment of the last second


@pytest.mark.parametrize("fps", [3.0, 10.0, 60.0])
def test_a_fragment_is_short_however_slowly_frames_come(fps: float, tmp_path: Path) -> None:
    """What the network makes of a source may be a third of the frames that it sends."""
    video = VideoWriter(tmp_path / "a.mp4", 25)
    rng = np.random.default_rng(0)
    for index in range(round(6 * fps) + 1):
        video.write(rng.integers(0, 255, (48, 64, 3), np.uint8), index / fps)
    copied = tmp_path / "at-the-kill.mp4"
    copied.write_bytes((tmp_path / "a.mp4").read_bytes())
    video.close()
    assert read_clip(copied)[-1][0] >= 5.0
    assert read_clip(tmp_path / "a.mp4")[-1][0] == pytest.approx(6, abs=1e-3)


def test_full_disk(tmp_path: Path) -> None:
    script = (
        "import resource, sys, numpy, pathlib; from rwkv_edge.video.writer import VideoWriter\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "noise = numpy.random.default_rng(0).integers(0, 255, (9, 120, 160, 3), numpy.uint8)\n"
        "video = VideoWriter(pathlib.Path(sys.argv[1]), 10)\n"
        "try:\n"
        "    for index in range(200):\n"
        "        video.write(noise[index % 9], index / 10)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, index)\n"
        "try:\n"
        "    video.close()\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.mp4")],
        capture_output=True,
        text=True,
        check=True,
    )
    name, index = process.stdout.split()[:2]
    assert name == "OutputError"
    assert int(index) < 100  # found out while it ran, not at the end
    assert process.stderr == ""


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    video = VideoWriter(tmp_path / "missing" / "a.mp4")
    with pytest.raises(OutputError, match="No such file"):
        video.write(numbered(1)[0], 0.0)


def test_no_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "ENCODERS", {"no-such-encoder": {}})
    with pytest.raises(OutputError, match=r"no H\.264 encoder"):
        VideoWriter(tmp_path / "a.mp4")


def test_nothing_written_leaves_nothing(tmp_path: Path) -> None:
    video = VideoWriter(tmp_path / "a.mp4")
    video.close()
    video.close()
    assert list(tmp_path.iterdir()) == []
