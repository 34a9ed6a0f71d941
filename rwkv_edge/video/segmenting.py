"""One frame through the network: the step that every way of running shares."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from rwkv_edge.config import DEFAULT_CONFIDENCE
from rwkv_edge.preprocess import FloatArray, UInt8Array, find_components, foreground_names, to_input
from rwkv_edge.video.base import Frame
from rwkv_edge.video.field_of_view import FieldOfView, FieldOfViewTracker
from rwkv_edge.video.result import Result
from rwkv_edge.video.smoothing import Smoother, Smoothing

STAGES = ("capture", "preprocess", "inference", "postprocess", "draw", "write")
_OUTAGE_S = 0.5
"""Or three times the last gap between frames: after a longer one the past is of another view."""
_ROUNDING = 1e-3  # half-precision softmax may end this far outside 0..1


class FrameSegmenter:
    """Turns frames of one stream into results."""

    def __init__(
        self,
        runner: Callable[[UInt8Array], FloatArray],
        input_size: tuple[int, int],
        names: Sequence[str],
        *,
        smoothing: Smoothing | None = None,
        find_view: bool = False,
        crop_to_view: bool = False,
    ) -> None:
        """Set up.

        Args:
            runner: maps (N, H, W, 3) uint8 BGR to (N, classes, H, W) float32 probabilities.
            input_size: H and W in pixels.
            names: the classes; one for a binary model, else the background first.
            smoothing: over time; None for none.
            find_view: look for the field of view, to hide what lies beside it.
            crop_to_view: look for it, and show the network that alone.
        """
        self._runner = runner
        self._input_size = input_size
        self._names = foreground_names(names)
        self._smoother = Smoother(smoothing)
        self._captured = self._gap = 0.0
        self._tracker = FieldOfViewTracker() if find_view or crop_to_view else None
        self._hides, self._crops = find_view, crop_to_view
        self.view: FieldOfView | None = None
        """The field of view of the last frame; None where it is not sought or not found."""

    def warm_up(self) -> None:
        """Run once on black: the first call allocates memory and chooses kernels."""
        self._runner(np.zeros((1, *self._input_size, 3), np.uint8))

    def __call__(
        self, frame: Frame, latency: dict[str, float], confidence: float = DEFAULT_CONFIDENCE
    ) -> Result:
        """Segment one frame; write what each stage took into `latency`, in ms."""
        self._forget_after_an_outage(frame)
        with timed(latency, "preprocess"):
            image, cut = frame.image, None
            if self._tracker is not None:
                found = self._tracker.update(image)
                cut = found if self._crops else None
                # where names must be hidden, none is shown before it is known where they stand
                self.view = None if self._hides and not self._tracker.is_settled else found
            if cut is not None:
                image = cut.crop(image)
            network_input, letterbox = to_input(image, self._input_size)
        with timed(latency, "inference"):
            output = self._runner(network_input)[0]
        with timed(latency, "postprocess"):
            valid = is_probability(output) and not is_saturated(output)
            if valid:
                output = self._smoother.average(network_input[0], output)
                probability = letterbox.restore(output)
                if cut is not None:
                    probability = cut.place(probability)
                mask = self._smoother.mask(probability, confidence)
                components = find_components(mask, probability)
            else:  # a mask drawn from NaN would look like «nothing found»
                self._smoother.forget()
                mask, components = np.zeros(frame.image.shape[:2], np.uint8), []
        return Result(frame, mask, components, self._names, valid, latency, self.view)

    def _forget_after_an_outage(self, frame: Frame) -> None:
        gap = frame.captured - (self._captured or frame.captured)
        if gap > max(_OUTAGE_S, 3 * self._gap):
            self._smoother.forget()
        self._captured, self._gap = frame.captured, gap

    @property
    def flicker(self) -> float | None:
        """See `Smoother.flicker`."""
        return self._smoother.flicker


def is_probability(output: FloatArray) -> bool:
    """Tell whether every value lies in 0..1; NaN and infinity do not."""
    # min and max hand NaN on, and comparisons with NaN are false
    return bool(output.min() >= -_ROUNDING and output.max() <= 1 + _ROUNDING)


def is_saturated(output: FloatArray) -> bool:
    """Tell whether nothing but exact zeros and ones came out, as from overflowed arithmetic."""
    return bool(((output <= 0) | (output >= 1)).all())


@contextmanager
def timed(latency: dict[str, float], stage: str) -> Iterator[None]:
    """Write the milliseconds of the block into `latency`."""
    start = time.perf_counter()
    yield
    latency[stage] = (time.perf_counter() - start) * 1e3
