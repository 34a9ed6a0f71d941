"""Figures of the live path in Prometheus' text format, written by hand: its grammar is small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rwkv_edge import __version__
from rwkv_edge.video.live import LiveFrame, Signal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS_S = (0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0)
_NETWORK = ("preprocess", "inference", "postprocess")


def processing_ms(frame: LiveFrame) -> float | None:
    """Return what it took from a captured picture to its mask; None without a result."""
    if frame.result is None:
        return None
    return sum(frame.result.latency_ms.get(stage, 0.0) for stage in _NETWORK)


@dataclass
class Histogram:
    """Counts of values up to each bound, as Prometheus takes quantiles from."""

    counts: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS_S))
    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Count one value, in seconds."""
        self.total += value
        self.count += 1
        for index, bound in enumerate(_BOUNDS_S):
            self.counts[index] += value <= bound

    def lines(self, name: str) -> list[str]:
        """Return the samples."""
        pairs = zip(_BOUNDS_S, self.counts, strict=True)
        return [
            *(f'{name}_bucket{{le="{bound:g}"}} {count}' for bound, count in pairs),
            f'{name}_bucket{{le="+Inf"}} {self.count}',
            f"{name}_sum {self.total:.6f}",
            f"{name}_count {self.count}",
        ]


class Metrics:
    """Collects from every frame. Not thread-safe."""

    def __init__(self) -> None:
        self.frames = self.invalid = self.refused = self.encoded = 0
        self._latency, self._age = Histogram(), Histogram()
        self._captured: float | None = None  # of the last live picture

    def observe(self, frame: LiveFrame, now: float) -> None:
        """Count a frame that was put out at `now`, by time.monotonic()."""
        self.frames += 1
        if frame.signal is Signal.LIVE:
            self._captured = frame.captured
        if frame.result is not None:
            self.invalid += not frame.result.valid
            self._latency.add((processing_ms(frame) or 0.0) / 1e3)
            self._age.add(now - frame.result.frame.captured)

    def text(self, frame: LiveFrame | None, signal: Signal, now: float, viewers: int) -> str:
        """Return the page for Prometheus.

        Args:
            frame: the newest.
            signal: what is known about the source, which may be less than the newest frame says.
            now: time.monotonic().
            viewers: how many watch.
        """
        dropped = frame.dropped if frame else 0
        fps = frame.fps if frame else 0.0
        found = len(frame.result.components) if frame and frame.result else 0
        labels = f'version="{__version__}",backend="{_escape(frame.backend if frame else "")}"'
        states = [f'rwkv_edge_signal{{state="{s.value}"}} {int(s is signal)}' for s in Signal]
        page: list[str] = []

        def put(name: str, kind: str, help_: str, samples: float | Sequence[str]) -> None:
            name = f"rwkv_edge_{name}"
            page.extend((f"# HELP {name} {help_}", f"# TYPE {name} {kind}"))
            page.extend([f"{name} {samples:g}"] if isinstance(samples, int | float) else samples)

        put("info", "gauge", "What runs.", [f"rwkv_edge_info{{{labels}}} 1"])
        put("signal", "gauge", "1 for the state of the source.", states)
        put("frames_total", "counter", "Frames put out.", [f"rwkv_edge_frames_total {self.frames}"])
        put("dropped_frames_total", "counter", "Frames overtaken by newer ones.",
            [f"rwkv_edge_dropped_frames_total {dropped}"])  # fmt: skip
        put("invalid_results_total", "counter", "Outputs withheld: they were no probabilities.",
            [f"rwkv_edge_invalid_results_total {self.invalid}"])  # fmt: skip
        put("results_per_second", "gauge", "Over the last moments.", fps)
        put("latency_seconds", "histogram", "From captured picture to mask.",
            self._latency.lines("rwkv_edge_latency_seconds"))  # fmt: skip
        put("age_seconds", "histogram", "From capture to output, where there is a result.",
            self._age.lines("rwkv_edge_age_seconds"))  # fmt: skip
        if self._captured is not None:
            put("picture_age_seconds", "gauge", "Since the newest live picture was captured.",
                [f"rwkv_edge_picture_age_seconds {now - self._captured:.3f}"])  # fmt: skip
        put("findings", "gauge", "Regions in the newest mask.", found)
        put("recording", "gauge", "1 while recording.", int(frame is not None and frame.recording))
        put("viewers", "gauge", "Who watches the page.", viewers)
        put("viewers_refused_total", "counter", "Turned away: too many.",
            [f"rwkv_edge_viewers_refused_total {self.refused}"])  # fmt: skip
        put("jpegs_total", "counter", "Pictures encoded for viewers.",
            [f"rwkv_edge_jpegs_total {self.encoded}"])  # fmt: skip
        return "\n".join(page) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
