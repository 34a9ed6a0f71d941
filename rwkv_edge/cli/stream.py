"""`rwkv-edge stream`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rwkv_edge.cli import live_options as live
from rwkv_edge.cli.config_file import ConfigOption
from rwkv_edge.cli.loading import (
    BackendOption,
    ImgszOption,
    ModelOption,
    VariantOption,
    WeightsOption,
)
from rwkv_edge.config import DEFAULT_CONFIDENCE, Outside

if TYPE_CHECKING:
    from rwkv_edge.runtime import Runner
    from rwkv_edge.video.inference import LiveRunner
    from rwkv_edge.video.live_sink import LiveSink
    from rwkv_edge.video.segmenting import FrameSegmenter
    from rwkv_edge.video.smoothing import Smoothing

_FILE_MB, _FILE_MINUTES, _FREE_MB = 1000.0, 10.0, 500.0
_HOST, _PORT = "127.0.0.1", 8080
_JSON_DEPTH = 256  # lines that may wait for a slow reader


def stream(
    source: live.SourceOption,
    config: ConfigOption = None,
    weights: WeightsOption = None,
    model: ModelOption = None,
    variant: VariantOption = None,
    backend: BackendOption = "auto",
    imgsz: ImgszOption = None,
    allow_cpu_fallback: live.CpuFallbackOption = False,
    headless: live.HeadlessOption = False,
    record: live.RecordOption = None,
    record_clean: live.RecordCleanOption = False,
    record_file_mb: live.RecordFileMbOption = _FILE_MB,
    record_file_minutes: live.RecordFileMinutesOption = _FILE_MINUTES,
    record_free_mb: live.RecordFreeMbOption = _FREE_MB,
    json: live.JsonOption = None,
    summary: live.SummaryOption = None,
    output_rtsp: live.OutputRtspOption = None,
    output_credentials: live.OutputCredentialsOption = None,
    conf: live.ConfOption = DEFAULT_CONFIDENCE,
    alpha: live.AlphaOption = 0.35,
    crop_fov: live.CropFovOption = True,
    outside: live.OutsideOption = Outside.SHOW,
    smoothing: live.SmoothingOption = 0.5,
    hysteresis: live.HysteresisOption = 0.1,
    credentials: live.CredentialsOption = None,
    rtsp_transport: live.RtspTransportOption = "tcp",
    fps: live.FpsOption = 25.0,
    max_seconds: live.MaxSecondsOption = None,
    web: live.WebOption = False,
    host: live.HostOption = _HOST,
    port: live.PortOption = _PORT,
    cert: live.CertOption = None,
    key: live.KeyOption = None,
    insecure_plain_http: live.PlainHttpOption = False,
    allow_host: live.AllowHostOption = None,
    token_file: live.TokenFileOption = None,
    webrtc: live.WebRtcOption = True,
) -> None:
    """Segment a live source: the newest frame with its mask, for hours.

    Frames that come too fast are dropped and counted. A mask older than
    200 ms is not drawn. A lost signal is shown and connected to again.
    Ctrl-C or SIGTERM ends it; a second one ends it at once.

    Example: rwkv-edge stream --source rtsp://192.168.0.10/live --web --headless
    """
    if allow_cpu_fallback:
        live.check_fallback(weights, model)
    if record is None:
        kept: dict[str, Any] = {"--record-clean": record_clean}
        kept["--record-file-mb"] = record_file_mb != _FILE_MB
        kept["--record-file-minutes"] = record_file_minutes != _FILE_MINUTES
        kept["--record-free-mb"] = record_free_mb != _FREE_MB
        live.check_companions(kept, "--record")
    if not web:
        page: dict[str, Any] = {"--host": host != _HOST, "--port": port != _PORT, "--cert": cert}
        page |= {"--key": key, "--no-webrtc": not webrtc}
        page |= {"--insecure-plain-http": insecure_plain_http, "--allow-host": allow_host}
        live.check_companions(page | {"--token-file": token_file}, "--web")
    if output_rtsp is None:
        live.check_companions({"--output-credentials": output_credentials}, "--output-rtsp")

    from rwkv_edge.cli.live_page import live_page
    from rwkv_edge.cli.loading import open_runner
    from rwkv_edge.errors import SourceError
    from rwkv_edge.memory import limit_arenas
    from rwkv_edge.video.capture import Capture
    from rwkv_edge.video.inference import Inference
    from rwkv_edge.video.live import Controls, View
    from rwkv_edge.video.live_pipeline import LivePipeline
    from rwkv_edge.video.live_sink import LiveJson, LiveWindow, Outlet
    from rwkv_edge.video.live_source import parse_live
    from rwkv_edge.video.recorder import Recorder, RecordingLimits
    from rwkv_edge.video.rtsp_output import RtspOutput, parse_output
    from rwkv_edge.video.smoothing import Smoothing
    from rwkv_edge.web.options import WebOptions, read_token

    source_input = parse_live(source, credentials=credentials, transport=rtsp_transport, rate=fps)
    published = parse_output(output_rtsp, output_credentials) if output_rtsp else None
    controls = Controls(View(conf, alpha, recording=record is not None))
    limit_arenas()
    with ExitStack() as stack:
        stop = stack.enter_context(_ended_by_signals())
        sinks: list[LiveSink] = []
        announce = None

        def add(sink: LiveSink) -> None:
            sinks.append(sink)
            stack.callback(sink.close)

        if record is not None:  # before anything runs: what is refused is refused at once
            limits = RecordingLimits(record_file_mb, record_file_minutes, record_free_mb)
            add(Outlet(Recorder(record, controls, clean=record_clean, limits=limits)))
        if json is not None:
            add(Outlet(LiveJson(json), _JSON_DEPTH))
        if published is not None:
            add(Outlet(RtspOutput(published), depth=1))
        if web:
            token = read_token(token_file) if token_file else None
            names = tuple(allow_host or ())
            options = WebOptions(
                host, port, cert, key, insecure_plain_http, names, token, webrtc=webrtc
            )
            page_sink, announce = stack.enter_context(
                live_page(controls, options, can_record=record is not None)
            )
            sinks.append(page_sink)
        if not headless:
            add(LiveWindow(controls))
        capture = Capture(source_input, stop)
        if source_input.returns:  # refused before the model is loaded, which may take long
            stack.enter_context(capture).wait_for_first()
        else:  # a file begins to play when somebody looks
            source_input.connect(stop).close()
        if announce is not None and not stop.is_set():
            announce()
        runner = open_runner(weights, model, variant, backend, imgsz)
        make = _segmenter_maker(
            runner, Smoothing(1 - smoothing, hysteresis=hysteresis), outside, crop_fov
        )
        fallback = _fallback(weights, model, variant, imgsz) if allow_cpu_fallback else None
        inference = stack.enter_context(
            Inference(capture.frames, runner, make, controls, stop, fallback)
        )
        if not source_input.returns:
            stack.enter_context(capture).wait_for_first()
        pipeline = LivePipeline(
            capture,
            inference,
            sinks,
            controls,
            stop,
            outside=outside,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
        )
        print(f"streaming {source_input.name}; Ctrl-C ends it", file=sys.stderr)
        pipeline.run(max_seconds)
        figures = {"source": source_input.name, **pipeline.summary()}
    _report(figures, summary, to_stderr="-" in (json, summary))
    if capture.problem is not None and not source_input.returns:
        raise capture.problem
    if capture.problems:  # a truncated file, for example
        raise SourceError(capture.problems[-1])


@contextmanager
def _ended_by_signals() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; the second ends the process."""
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _segmenter_maker(
    runner: Runner, smoothing: Smoothing, outside: Outside, crop: bool
) -> Callable[[LiveRunner], FrameSegmenter]:
    from rwkv_edge.video.segmenting import FrameSegmenter

    size, names, hides = runner.info.input_size, runner.info.names, outside is not Outside.SHOW
    return lambda runner: FrameSegmenter(
        runner, size, names, smoothing=smoothing, find_view=hides, crop_to_view=crop
    )


def _fallback(
    weights: Path | None, model: Path | None, variant: str | None, imgsz: str | None
) -> Callable[[], LiveRunner]:
    from rwkv_edge.cli.loading import open_runner

    return lambda: open_runner(weights, model, variant, "onnxruntime", imgsz)


def _report(figures: dict[str, Any], target: str | None, *, to_stderr: bool) -> None:
    from rwkv_edge.cli.console import write_json_option

    if target is not None:
        write_json_option(target, figures)
    age = figures["age_at_display_ms"]
    flicker = figures["flicker"]
    words = [
        f"{figures['frames_captured']} frames captured, {figures['frames_dropped']} dropped, "
        f"{figures['results']} segmented, {figures['results_with_finding']} with a finding",
        f"{figures['masks_shown']} pictures shown with their mask, "
        f"{figures['pictures_without_mask']} without",
        f"age at display, ms: p50 {age['p50']:.0f}, p90 {age['p90']:.0f}, p99 {age['p99']:.0f}",
        *(
            f"{stage}, ms: p50 {value['p50']:.1f}, p90 {value['p90']:.1f}, p99 {value['p99']:.1f}"
            for stage, value in figures["latency_ms"].items()
        ),
        f"reconnects: {figures['reconnects']}; invalid results: {figures['invalid_results']}; "
        f"inference failures: {figures['inference_failures']}",
    ]
    if flicker is not None:
        words.append(f"flicker: {100 * flicker:.3f} % of pixels change class in a still view")
    words += [f"warning: {problem}" for problem in figures["problems"]]
    words.append(figures["backend"])
    print("\n".join(words), file=sys.stderr if to_stderr else sys.stdout)
