from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rwkv_edge.errors import SourceError, UsageError
from rwkv_edge.video.image_files import unique_names
from rwkv_edge.video.source import open_source
from tests.video.clips import Image, number_of, numbered, write_clip


def read_all(text: str | Path, **options: int) -> list[tuple[int, float, Image]]:
    with open_source(str(text), **options) as source:
        return [(frame.index, frame.time_s, frame.image) for frame in source]


def refusal(text: str | Path) -> str:
    with pytest.raises(SourceError) as caught:
        read_all(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestNames:
    def test_nothing_there(self) -> None:
        assert refusal("nowhere.mp4").startswith("no such source: nowhere.mp4")

    def test_a_home_that_nobody_has(self) -> None:
        assert "~nosuchuser" in refusal("~nosuchuser/clip.mp4")

    def test_address_is_not_repeated(self) -> None:
        assert "secret" not in refusal("rtsp://user:secret@camera/1")

    def test_stride_below_one(self, clip: Path) -> None:
        with pytest.raises(UsageError, match="--vid-stride 0"):
            open_source(str(clip), vid_stride=0)

    @pytest.mark.parametrize("name", ["a:b.mp4", "with space [1].mp4", "-x.mp4", "clip"])
    def test_awkward_file_names(
        self, name: str, tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / name).write_bytes(clip.read_bytes())
        monkeypatch.chdir(tmp_path)
        assert len(read_all(name)) == 20


class TestImages:
    def test_natural_order_and_hidden_files(self, tmp_path: Path) -> None:
        for index in (10, 2, 1):
            image = np.full((16, 16, 3), 20 * index, np.uint8)
            cv2.imwrite(str(tmp_path / f"frame{index}.png"), image)
        (tmp_path / "._frame1.png").write_bytes(b"macOS was here")
        (tmp_path / "notes.txt").write_text("not an image")
        with open_source(str(tmp_path)) as source:
            frames = list(source)
        assert [frame.name for frame in frames] == ["frame1", "frame2", "frame10"]
        assert [int(frame.image[0, 0, 0]) for frame in frames] == [20, 40, 200]
        assert {frame.time_s for frame in frames} == {0.0}
        assert source.problems == []

    def test_pattern_and_stride(self, tmp_path: Path) -> None:
        for index in range(5):
            cv2.imwrite(str(tmp_path / f"{index}.png"), np.zeros((16, 16, 3), np.uint8))
        cv2.imwrite(str(tmp_path / "x.jpg"), np.zeros((16, 16, 3), np.uint8))
        with open_source(f"{tmp_path}/*.png", vid_stride=2) as source:
            assert source.count == 3
            assert [(frame.index, frame.name) for frame in source] == [(0, "0"), (2, "2"), (4, "4")]

    def test_names_stay_unique(self) -> None:
        paths = [Path(text) for text in ("a/x.jpg", "b/x.jpg", "a/x-2.jpg", "a/x.png", "a/y.png")]
        names = unique_names(paths)
        assert len(set(names)) == 5
        assert names[:2] == ["x", "x-2"]

    def test_unreadable_ones_are_left_out(self, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "good.png"), np.zeros((16, 16, 3), np.uint8))
        (tmp_path / "bad.png").write_text("hello")
        with open_source(str(tmp_path)) as source:
            assert [frame.name for frame in source] == ["good"]
        assert len(source.problems) == 2
        assert "bad.png" in source.problems[0]
        assert source.problems[1] == "1 of 2 images could be read"

    def test_none_readable(self, tmp_path: Path) -> None:
        for name in ("a.png", "b.png"):
            (tmp_path / name).write_text("hello")
        assert "none of 2 images" in refusal(tmp_path)

    def test_empty_folder(self, tmp_path: Path) -> None:
        assert refusal(tmp_path) == f"no images in folder {tmp_path}"

    def test_folder_of_videos(self, clip: Path) -> None:
        assert f"for example {clip}" in refusal(clip.parent)

    def test_pattern_without_match(self, tmp_path: Path) -> None:
        assert refusal(f"{tmp_path}/*.png").startswith("no images in pattern")

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("truncated.jpg", "truncated"),
            ("text.png", "not an image"),
            ("tiny.png", "too small"),
            ("empty.png", "0 bytes"),
        ],
    )
    def test_a_bad_image_is_refused_when_opened(
        self, name: str, words: str, tmp_path: Path
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        jpeg = cv2.imencode(".jpg", noise)[1].tobytes()
        content = {
            "truncated.jpg": jpeg[: len(jpeg) // 2],
            "text.png": b"I am no picture",
            "tiny.png": cv2.imencode(".png", noise[:1, :1])[1].tobytes(),
            "empty.png": b"",
        }[name]
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError, match=words):
            open_source(str(tmp_path / name))


class TestVideo:
    def test_every_frame_in_order(self, clip: Path) -> None:
        frames = read_all(clip)
        assert [index for index, _, _ in frames] == list(range(20))
        assert [number_of(image) for _, _, image in frames] == list(range(20))
        assert [time_s for _, time_s, _ in frames] == pytest.approx([n / 10 for n in range(20)])

    def test_stride(self, clip: Path) -> None:
        with open_source(str(clip), vid_stride=6) as source:
            assert (source.count, source.fps) == (4, pytest.approx(10 / 6))
            frames = list(source)
        assert [number_of(frame.image) for frame in frames] == [0, 6, 12, 18]
        assert [frame.time_s for frame in frames] == pytest.approx([0, 0.6, 1.2, 1.8])

    def test_variable_frame_rate_keeps_its_times(self, tmp_path: Path) -> None:
        times = [0.0, 0.04, 0.5, 0.51, 2.0, 2.04]
        clip = write_clip(tmp_path / "vfr.mkv", numbered(6), times)
        assert [time_s for _, time_s, _ in read_all(clip)] == pytest.approx(times, abs=2e-3)

    def test_ten_bits_and_odd_size(self, tmp_path: Path) -> None:
        images = numbered(3, (49, 67))
        clip = write_clip(tmp_path / "deep.mkv", images, codec="ffv1", pix_fmt="yuv444p10le")
        for (_, _, image), wanted in zip(read_all(clip), images, strict=True):
            assert image.dtype == np.uint8
            np.testing.assert_allclose(image.astype(int), wanted, atol=2)

    @pytest.mark.parametrize("degrees", [90, 180, 270])
    def test_rotation_mark(self, degrees: int, tmp_path: Path) -> None:
        image = np.zeros((48, 64, 3), np.uint8)
        image[:16, :24] = 255  # a light corner tells the orientation
        clip = write_clip(tmp_path / "clip.mp4", [image] * 2)
        clip.write_bytes(_rotate(clip.read_bytes(), degrees))
        _, expected = cv2.VideoCapture(str(clip)).read()  # which turns frames as it should
        assert expected.shape[:2] == ((64, 48) if degrees % 180 else (48, 64))
        shown = read_all(clip)[0][2]
        np.testing.assert_allclose(shown.astype(int), expected, atol=12)

    @pytest.mark.parametrize(("aspect", "width"), [(Fraction(4, 3), 85), (Fraction(1, 9), 64)])
    def test_pixels_that_are_not_square(self, aspect: Fraction, width: int, tmp_path: Path) -> None:
        clip = write_clip(tmp_path / "clip.mp4", numbered(2), aspect=aspect)
        assert read_all(clip)[0][2].shape == (48, width, 3)

    def test_truncated_file_is_reported(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
        clip = write_clip(tmp_path / "clip.mp4", list(noise), movflags="faststart")
        clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
        with open_source(str(clip)) as source:
            count = sum(1 for _ in source)
        assert 10 < count < 30
        (problem,) = source.problems
        assert f"{count} of 40 frames could be read; " in problem

    def test_whole_file_is_not_reported(self, clip: Path) -> None:
        with open_source(str(clip)) as source:
            assert len(list(source)) == 20
        assert source.problems == []

    def test_damage_in_the_middle_costs_only_some_frames(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
        clip = write_clip(tmp_path / "clip.mp4", list(noise))
        content = bytearray(clip.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 20_000] = bytes(20_000)
        clip.write_bytes(content)
        frames = read_all(clip)
        assert 20 < len(frames) <= 40
        assert frames[-1][1] > 3.5

    def test_text_called_mp4(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_text("I am no video")
        assert "not a video" in refusal(tmp_path / "a.mp4")

    def test_text_file(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("FFmpeg would film this\n" * 50)
        assert "not a video" in refusal(tmp_path / "notes.txt")

    def test_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").touch()
        assert "0 bytes" in refusal(tmp_path / "a.mp4")

    def test_no_index(self, clip: Path) -> None:
        clip.write_bytes(clip.read_bytes()[:-2000])  # the moov box stands at the end
        assert "not a video" in refusal(clip)

    def test_no_frames(self, tmp_path: Path) -> None:
        with av.open(str(tmp_path / "a.mp4"), "w", options={"movflags": "empty_moov"}) as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            container.start_encoding()
        assert "no frame" in refusal(tmp_path / "a.mp4")

    def test_sound_only(self, tmp_path: Path) -> None:
        with av.open(str(tmp_path / "a.wav"), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
            silence.sample_rate = 8000
            container.mux(stream.encode(silence))
        assert "holds no video" in refusal(tmp_path / "a.wav")

    def test_too_small(self, tmp_path: Path) -> None:
        clip = write_clip(tmp_path / "a.mkv", numbered(2, (4, 4)), codec="ffv1", pix_fmt="yuv444p")
        assert "4 x 4 pixels is too small" in refusal(clip)


class TestCamera:
    def test_no_such_camera(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert refusal("97").startswith("camera 97 cannot be opened")
        assert capfd.readouterr().err == ""  # nor does OpenCV say anything

    def test_frames_and_the_end(self, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        capture = cv2.VideoCapture  # a file stands in for a camera that is unplugged
        monkeypatch.setattr(cv2, "VideoCapture", lambda index, backend: capture(str(clip)))
        seen = []
        with open_source("0", vid_stride=5) as source:
            assert (source.kind, source.count, source.fps) == ("camera", None, 2.0)
            frames = iter(source)
            for _ in range(4):
                frame = next(frames)
                seen.append((frame.index, number_of(frame.image)))
                assert 0 <= frame.time_s < 5
            with pytest.raises(SourceError, match="camera 0 stopped"):
                next(frames)
        assert seen == [(0, 0), (5, 5), (10, 10), (15, 15)]

    def test_a_file_called_like_a_number(self, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(clip.parent)
        os.rename(clip, "0")
        assert len(read_all("./0")) == 20


def _rotate(content: bytes, degrees: int) -> bytes:
    """Write a rotation into the matrix of an MP4's track header, as telephones do."""
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    start = content.index(b"tkhd") + 4 + 40
    matrix = [cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30]
    return content[:start] + struct.pack(">9i", *matrix) + content[start + 36 :]
