from __future__ import annotations

from rwkv_edge.video.live import Signal
from rwkv_edge.web.events import EventLog
from tests.web.conftest import live_frame


def texts(log: EventLog, after: int = 0) -> list[str]:
    return [event.text for event in log.after(after)]


def test_signal_backend_recording_and_invalid_output_are_reported_once() -> None:
    log = EventLog()
    for step in range(3):
        log.observe(live_frame(finding=False), step)
    assert texts(log) == ["signal: LIVE", "runs on test backend"]
    start = log.count
    log.observe(live_frame(Signal.STALLED, result=False, recording=True), 4)
    log.observe(live_frame(finding=False, valid=False), 5)
    log.observe(live_frame(finding=False), 6)
    assert texts(log, start) == [
        "signal: STALLED",
        "recording started",
        "signal: LIVE",
        "recording ended",
        "the network's output is invalid: nothing of it is shown",
        "the network's output is valid again",
    ]
    assert log.after(start)[0].kind == "error"


def test_a_flicker_is_no_event() -> None:
    log = EventLog()
    log.observe(live_frame(finding=False), 0)
    start = log.count
    for step in range(20):  # there and away every 100 ms
        log.observe(live_frame(finding=step % 2 == 0), 0.1 * step)
    assert texts(log, start) == []
    for now in (10.0, 10.2, 10.4, 12.0, 12.1):
        log.observe(live_frame(), now)
    for now in (15.0, 15.5, 16.1):
        log.observe(live_frame(finding=False), now)
    assert texts(log, start) == [
        "polyp appears, confidence 0.87",
        "finding gone; it was seen for 5.0 s",
    ]


def test_lost_results_are_not_called_gone() -> None:
    log = EventLog()
    for now in (0.0, 1.0):
        log.observe(live_frame(), now)
    for now in (2.0, 4.0):
        log.observe(live_frame(Signal.STALLED, result=False), now)
    assert "unknown, no fresh result" in texts(log)[-1]


def test_old_events_are_dropped_and_repeated_errors_listed_once() -> None:
    log = EventLog()
    log.report("disk full")
    log.report("disk full")
    assert texts(log) == ["disk full"]
    for number in range(500):
        log.report(f"error {number}")
    assert len(log.after(0)) == 200
    assert log.after(log.count - 1)[0].text == "error 499"
