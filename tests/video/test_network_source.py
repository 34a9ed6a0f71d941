"""Where each address leads, and what is said when it leads nowhere. Servers: see tests/faults."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from rwkv_edge.errors import SourceError, UsageError
from rwkv_edge.video.live_source import Paced, parse_live
from rwkv_edge.video.network_source import ArrivalClock
from rwkv_edge.video.source import open_source
from tests.video.clips import number_of


class TestArrivalClock:
    def test_steady_frames_are_captured_when_they_come(self) -> None:
        clock = ArrivalClock()
        for index in range(100):
            assert clock.captured(50 + index / 30, 7 + index / 30) == pytest.approx(50 + index / 30)

    def test_what_was_held_back_is_as_old_as_its_stamps_say(self) -> None:
        clock = ArrivalClock()
        for index in range(30):
            clock.captured(100 + index / 30, index / 30)
        # frozen for a second and a half, then everything at once
        for index in range(30, 75):
            captured = clock.captured(102.5, index / 30)
            assert captured == pytest.approx(100 + index / 30, abs=0.11)
        assert clock.captured(102.6, 2.6) == pytest.approx(102.6, abs=0.01)

    def test_time_stamps_that_begin_anew(self) -> None:
        clock = ArrivalClock()
        clock.captured(100, 3000)
        assert clock.captured(101, 0) == 101
        assert clock.captured(102, 1) == 102

    def test_clocks_that_drift_apart_by_a_tenth_of_a_thousandth(self) -> None:
        clock = ArrivalClock()
        for minute in range(600):
            arrived = 60.0 * minute
            assert clock.captured(arrived, arrived * (1 - 1e-4)) == arrived

    def test_a_lag_that_stays_is_noticed_and_one_that_is_caught_up_is_not(self) -> None:
        for catches_up in (True, False):
            clock = ArrivalClock()
            for index in range(30):
                clock.captured(100 + index / 30, index / 30)
            stuck = []
            for index in range(30, 120):
                lag = 1.0 * (index < 60 or not catches_up)
                clock.captured(100 + lag + index / 30, index / 30)
                stuck.append(clock.is_stuck)
            assert any(stuck) is not catches_up

    def test_frames_without_stamps(self) -> None:
        assert ArrivalClock().captured(12.5, None) == 12.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gopher://user:sesame@box", "gopher:// is none of rtsp://"),
        ("v4l2://video0", "name a device"),
        ("csi://front", "name a sensor"),
        ("rtsp:///live", "names no host"),
    ],
)
def test_addresses_that_are_refused_before_anything_is_opened(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_live(text)
    assert "sesame" not in str(caught.value)


def test_udp_and_tcp_are_the_transports() -> None:
    with pytest.raises(UsageError, match="choose one of tcp, udp"):
        parse_live("rtsp://box/live", transport="pigeon")


@pytest.mark.parametrize("text", ["csi://0", "videotestsrc ! appsink"])
def test_gstreamer_is_missed_in_words(text: str) -> None:
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer: what is said without it is not tried")
    with pytest.raises(SourceError, match="built without GStreamer"):
        parse_live(text).connect(threading.Event())


def test_a_pipeline_is_named_without_its_password() -> None:
    source = parse_live("rtspsrc location=rtsp://me:sesame@box/live ! appsink")
    assert "sesame" not in source.name


class TestPaced:
    @pytest.mark.parametrize("prefix", ["", "file://"])
    def test_a_video_takes_its_time(self, clip: Path, prefix: str) -> None:
        began = time.monotonic()
        with parse_live(f"{prefix}{clip}").connect(threading.Event()) as source:
            frames = list(source)
        assert [number_of(frame.image) for frame in frames] == list(range(20))
        spans = np.diff([frame.captured for frame in frames])
        assert frames[-1].captured - began >= 1.9
        assert spans.min() >= 0

    def test_images_at_the_rate_that_was_asked_for(self, tmp_path: Path) -> None:
        for index in range(5):
            cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((16, 16, 3), index, np.uint8))
        began = time.monotonic()
        with parse_live(str(tmp_path), rate=10).connect(threading.Event()) as source:
            frames = list(source)
        assert len(frames) == 5
        assert frames[-1].captured - began >= 0.4

    def test_a_stop_ends_the_wait(self, clip: Path) -> None:
        stop = threading.Event()
        stop.set()
        with Paced(open_source(str(clip)), stop) as source:
            assert list(source) == []

    @pytest.mark.parametrize("name", ["-dash.mp4", "two words.mp4", "zwölf\n.mp4", "a%20b.mp4"])
    def test_names(self, clip: Path, tmp_path: Path, name: str) -> None:
        path = clip.rename(tmp_path / name)
        with parse_live(str(path)).connect(threading.Event()) as source:
            assert number_of(next(iter(source)).image) == 0
