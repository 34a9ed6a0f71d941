"""The steps of `rwkv-edge benchmark`: runtimes, video and timing put together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rwkv_edge import __version__
from rwkv_edge.bench.meters import CARD, Found, clocks_locked, find_meter
from rwkv_edge.bench.power import Meter, Sampler, Usage
from rwkv_edge.bench.report import FORMAT, describe_candidate
from rwkv_edge.bench.stages import Candidate, Samples, measure
from rwkv_edge.bench.timing import count_rounds, describe_machine
from rwkv_edge.cache import cache_folder
from rwkv_edge.cli.candidates import Opened, check_outputs, choose, open_choices
from rwkv_edge.cli.clip import write_rendered_clip
from rwkv_edge.cli.console import progress_bar
from rwkv_edge.config import DEFAULT_CONFIDENCE, RESEARCH_USE
from rwkv_edge.files import atomic_path
from rwkv_edge.memory import peak_bytes
from rwkv_edge.preprocess import (
    FloatArray,
    Letterbox,
    UInt8Array,
    find_components,
    foreground_names,
    to_input,
    to_mask,
)
from rwkv_edge.video import Frame, Result, open_source
from rwkv_edge.video.overlay import draw_overlay

_CLIP_SEED, _CLIP_FRAMES = 1, 8
_CHECKED_FRAMES = 4
_POWER_SECONDS, _IDLE_SECONDS = 3.0, 1.0


@dataclass(frozen=True)
class Request:
    """What to time; see the options of the command."""

    models: tuple[Path, ...]
    variants: tuple[str, ...]
    untrained: bool
    backends: tuple[str, ...]
    imgsz: str | None
    batch: int
    source: str | None
    frames: int
    seconds: float
    warm_up: int
    threads: int | None


class _Frames:
    """Endless frames: a source that ends is opened again, outside of what is timed."""

    def __init__(self, source: str) -> None:
        self._name = source
        self._open()

    def _open(self) -> None:
        self._source = open_source(self._name)
        self._walk = iter(self._source)

    def take(self, count: int) -> tuple[list[Frame], float]:
        """Return so many frames and the seconds that it took to get them."""
        frames: list[Frame] = []
        seconds = 0.0
        while len(frames) < count:
            start = time.perf_counter()
            frame = next(self._walk, None)
            if frame is None:
                self.close()
                self._open()
                continue
            seconds += time.perf_counter() - start
            frames.append(frame)
        return frames, seconds

    def close(self) -> None:
        self._source.close()


def run_benchmark(request: Request) -> dict[str, Any]:
    """Check, time and meter every candidate; return the record that becomes JSON.

    Raises:
        BackendError: an output is wrong, or a runtime failed.
        RwkvEdgeError: options, models or source, as their messages say.
    """
    choices = choose(
        request.models, request.variants, request.backends, request.imgsz, request.untrained
    )
    found = find_meter()
    with ExitStack() as stack:
        if found.meter:
            stack.callback(found.meter.close)
        frames = stack.enter_context(closing(_Frames(request.source or _rendered_clip())))
        opened = open_choices(choices, request.batch, request.threads, stack)
        checks = check_outputs(opened, [frame.image for frame in frames.take(_CHECKED_FRAMES)[0]])
        candidates = [_candidate(entry) for entry in opened]
        samples = _time(candidates, frames, request)
        idle = _idle(found.meter) if found.meter else None
        described = {}
        for entry, candidate in zip(opened, candidates, strict=True):
            meter, why_not = _meter_of(found, entry)
            usage = _run_alone(meter, candidate, frames, request) if meter else None
            described[entry.label] = describe_candidate(
                samples[entry.label],
                request.batch,
                usage,
                why_not,
                {
                    "variant": entry.runner.info.variant,
                    "model": entry.runner.info.source,
                    "input_size": list(entry.runner.info.input_size),
                    "backend": entry.runner.backend,
                    "check": checks[entry.label],
                    "loaded_mib": entry.loaded_mib,
                },
            )
    peak = peak_bytes()
    machine = describe_machine("numpy", "onnxruntime")
    return {
        "benchmark_format": FORMAT,
        "use": RESEARCH_USE,
        "title": f"{machine.get('board') or machine['processor']}, batch {request.batch}, "
        f"rwkv-edge {__version__}",
        "machine": machine,
        "source": request.source or "rendered clip",
        "batch": request.batch,
        "threads": request.threads,
        "warm_up": request.warm_up,
        "peak_host_mib": None if peak is None else peak / (1 << 20),
        "power_source": {
            "name": found.meter.name if found.meter else None,
            "measures": found.meter.measures if found.meter else None,
            "reason": found.reason or None,
            "power_mode": found.meter.power_mode if found.meter else None,
            "clocks_locked": clocks_locked(found.meter),
            "idle_watts": idle.watts if idle else None,
        },
        "candidates": described,
    }


def _rendered_clip() -> str:
    """Return the path of a short rendered clip, made once."""
    path = cache_folder() / f"benchmark-{_CLIP_SEED}-{_CLIP_FRAMES}-{__version__}.mp4"
    if not path.is_file():
        with atomic_path(path) as temporary:
            write_rendered_clip(temporary, _CLIP_SEED, _CLIP_FRAMES)
    return str(path)


def _candidate(entry: Opened) -> Candidate:
    """Cut what `video.Pipeline` does with a frame into steps, for any number of frames a call."""
    runner = entry.runner
    classes = foreground_names(runner.info.names)

    def preprocess(frames: list[Frame]) -> Any:
        fitted = [to_input(frame.image, runner.info.input_size) for frame in frames]
        return frames, [box for _, box in fitted], np.concatenate([image for image, _ in fitted])

    def infer(prepared: tuple[list[Frame], list[Letterbox], UInt8Array]) -> Any:
        frames, boxes, images = prepared
        return frames, boxes, runner(images)

    def postprocess(inferred: tuple[list[Frame], list[Letterbox], FloatArray]) -> list[Result]:
        results = []
        for frame, box, output in zip(*inferred, strict=True):
            probability = box.restore(output)
            mask = to_mask(probability, DEFAULT_CONFIDENCE)
            components = find_components(mask, probability)
            results.append(Result(frame, mask, components, classes, True, {}))
        return results

    def draw(results: list[Result]) -> None:
        for result in results:
            draw_overlay(result, [runner.backend])

    steps = (
        ("preprocess", preprocess),
        ("inference", infer),
        ("postprocess", postprocess),
        ("draw", draw),
    )
    return Candidate(entry.label, steps, lambda: runner.stage_ms)


def _time(candidates: list[Candidate], frames: _Frames, request: Request) -> dict[str, Samples]:
    with progress_bar("timing", request.frames) as advance:

        def rounds() -> Iterator[int]:
            for number in count_rounds(request.frames, request.seconds, len(candidates)):
                yield number
                advance()

        return measure(candidates, lambda: frames.take(request.batch), rounds(), request.warm_up)


def _meter_of(found: Found, entry: Opened) -> tuple[Meter | None, str]:
    """Return what tells the power of a candidate, or None and why."""
    on_card = any(word in entry.runner.backend.lower() for word in ("tensorrt", "cuda"))
    if found.meter and found.meter.measures == CARD and not on_card:
        return None, f"{found.meter.name} measures the {CARD}, and this runs on the processor"
    return found.meter, found.reason or "the sensor gives no power"


def _idle(meter: Meter) -> Usage:
    with Sampler(meter) as sampler:
        time.sleep(_IDLE_SECONDS)
    return sampler.usage


def _run_alone(meter: Meter, candidate: Candidate, frames: _Frames, request: Request) -> Usage:
    """Meter a candidate that has the machine for itself, which taking turns does not allow."""
    seconds = min(_POWER_SECONDS, request.seconds)
    with Sampler(meter) as sampler:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            candidate.run(frames.take(request.batch)[0])
    return sampler.usage
