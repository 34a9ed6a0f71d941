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
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rwkv_edge.cli.config_file import ConfigOption
from rwkv_edge.cli.loading import (
    BackendOption,
    ImgszOption,
    ModelOption,
    VariantOption,
    WeightsOption,
)
from rwkv_edge.cli.serve import (
    AllowHostOption,
    CertOption,
    HostOption,
    KeyOption,
    PlainHttpOption,
    PortOption,
    TokenFileOption,
)
from rwkv_edge.config import DEFAULT_CONFIDENCE, Outside

if TYPE_CHECKING:
    from rwkv_edge.runtime import Runner
    from rwkv_edge.video.inference import LiveRunner
    from rwkv_edge.video.live_sink import LiveSink
    from rwkv_edge.video.segmenting import FrameSegmenter

_JSON_DEPTH = 256  # lines that may wait for a slow reader


def stream(
    source: Annotated[
        str,
        typer.Option(
            help="rtsp://, http://, a camera's index, v4l2:///dev/video0, csi://0, a GStreamer "
            "pipeline, or a file, folder or pattern, played at its own rate."
        ),
    ],
    config: ConfigOption = None,
    weights: WeightsOption = None,
    model: ModelOption = None,
    variant: VariantOption = None,
    backend: BackendOption = "auto",
    imgsz: ImgszOption = None,
    allow_cpu_fallback: Annotated[
        bool,
        typer.Option(
            "--allow-cpu-fallback", help="Go on in ONNX Runtime if the backend fails, and say so."
        ),
    ] = False,
    headless: Annotated[bool, typer.Option("--headless", help="Open no window.")] = False,
    record: Annotated[
        Path | None, typer.Option(help="Record into this folder, from the start.")
    ] = None,
    record_clean: Annotated[
        bool, typer.Option("--record-clean", help="Also record the picture without the overlay.")
    ] = False,
    record_file_mb: Annotated[
        float, typer.Option(help="Begin a new file after so many megabytes.")
    ] = 1000.0,
    record_file_minutes: Annotated[
        float, typer.Option(help="Begin a new file after so many minutes.")
    ] = 10.0,
    record_free_mb: Annotated[
        float, typer.Option(help="Stop recording when less than this is free on the disk.")
    ] = 500.0,
    json: Annotated[
        str | None,
        typer.Option(help="Write JSON lines to this file, or to - (standard output)."),
    ] = None,
    summary: Annotated[
        str | None, typer.Option(help="Write the summary as JSON to this file, or to -.")
    ] = None,
    conf: Annotated[
        float, typer.Option(help="Probability from which a pixel counts, 0 to 1.")
    ] = DEFAULT_CONFIDENCE,
    alpha: Annotated[float, typer.Option(help="Opacity of the fill, 0 to 1.")] = 0.35,
    crop_fov: Annotated[
        bool,
        typer.Option(
            "--crop-fov/--no-crop-fov", help="Show the network the endoscope's field of view alone."
        ),
    ] = True,
    outside: Annotated[
        Outside,
        typer.Option(
            help="What the screen, the page and recordings show outside the field of view, where "
            "patient data is written. black and crop leave nothing of it."
        ),
    ] = Outside.SHOW,
    smoothing: Annotated[
        float, typer.Option(help="Share of the past in the averaged probabilities, 0 to 0.95.")
    ] = 0.5,
    hysteresis: Annotated[
        float,
        typer.Option(help="How far below --conf a pixel may fall before it is dropped, 0 to 0.5."),
    ] = 0.1,
    credentials: Annotated[
        Path | None,
        typer.Option(
            help="File with user and password, a line each. Else RWKV_EDGE_RTSP_USER and "
            "RWKV_EDGE_RTSP_PASSWORD are used."
        ),
    ] = None,
    rtsp_transport: Annotated[str, typer.Option(help="tcp or udp.")] = "tcp",
    fps: Annotated[float, typer.Option(help="Rate of an image sequence.")] = 25.0,
    max_seconds: Annotated[float | None, typer.Option(help="End after so many seconds.")] = None,
    web: Annotated[
        bool, typer.Option("--web", help="Serve a live page, to this machine unless --host says.")
    ] = False,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8080,
    cert: CertOption = None,
    key: KeyOption = None,
    insecure_plain_http: PlainHttpOption = False,
    allow_host: AllowHostOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Segment a live source: the newest frame with its mask, for hours.

    Frames that come too fast are dropped and counted. A mask older than
    200 ms is not drawn. A lost signal is shown and connected to again.
    Ctrl-C or SIGTERM ends it; a second one ends it at once.

    Example: rwkv-edge stream --source rtsp://192.168.0.10/live --web --headless
    """
    _check_options(
        backend, imgsz, conf, alpha, smoothing, hysteresis, fps, max_seconds,
        (record_file_mb, record_file_minutes, record_free_mb), record_clean and record is None,
        allow_cpu_fallback and any(path and path.suffix == ".engine" for path in (weights, model)),
    )  # fmt: skip

    from rwkv_edge.cli.loading import open_runner
    from rwkv_edge.cli.serve import live_page
    from rwkv_edge.errors import SourceError
    from rwkv_edge.files import check_writable
    from rwkv_edge.video.capture import Capture
    from rwkv_edge.video.inference import Inference
    from rwkv_edge.video.live import Controls, View
    from rwkv_edge.video.live_pipeline import LivePipeline
    from rwkv_edge.video.live_sink import LiveJson, LiveWindow, Outlet
    from rwkv_edge.video.live_source import parse_live
    from rwkv_edge.video.recorder import Recorder, RecordingLimits
    from rwkv_edge.web.options import WebOptions, read_token

    source_input = parse_live(source, credentials=credentials, transport=rtsp_transport, rate=fps)
    controls = Controls(View(conf, alpha, recording=record is not None))
    for path in (json, summary):
        if path not in (None, "-"):
            check_writable(Path(path).parent)
    with ExitStack() as stack:
        stop = stack.enter_context(_ended_by_signals())
        sinks: list[LiveSink] = []

        def add(sink: LiveSink) -> None:
            sinks.append(sink)
            stack.callback(sink.close)

        if record is not None:  # before anything runs: what is refused is refused at once
            limits = RecordingLimits(record_file_mb, record_file_minutes, record_free_mb)
            add(Outlet(Recorder(record, controls, clean=record_clean, limits=limits)))
        if json is not None:
            add(Outlet(LiveJson(json), _JSON_DEPTH))
        if web:
            token = read_token(token_file) if token_file else None
            names = tuple(allow_host or ())
            page = WebOptions(host, port, cert, key, insecure_plain_http, names, token)
            sinks.append(
                stack.enter_context(live_page(controls, page, can_record=record is not None))
            )
        if not headless:
            add(LiveWindow(controls))
        capture = Capture(source_input, stop)
        if source_input.returns:  # refused before the model is loaded, which may take long
            stack.enter_context(capture).wait_for_first()
        else:  # a file begins to play when somebody looks
            source_input.connect(stop).close()
        runner = open_runner(weights, model, variant, backend, imgsz)
        make = _segmenter_maker(
            runner, crop_fov or outside != Outside.SHOW, 1 - smoothing, hysteresis
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


def _check_options(
    backend: str,
    imgsz: str | None,
    conf: float,
    alpha: float,
    smoothing: float,
    hysteresis: float,
    fps: float,
    max_seconds: float | None,
    limits: tuple[float, float, float],
    clean_alone: bool,
    engine_fallback: bool,
) -> None:
    from rwkv_edge.cli.loading import BACKENDS, parse_imgsz
    from rwkv_edge.errors import UsageError

    if backend not in BACKENDS:
        raise UsageError(f"--backend {backend}: choose one of {', '.join(BACKENDS)}")
    if imgsz is not None:
        parse_imgsz(imgsz)
    shares = (
        ("--conf", conf, 1.0),
        ("--alpha", alpha, 1.0),
        ("--smoothing", smoothing, 0.95),
        ("--hysteresis", hysteresis, 0.5),
    )
    for option, share, highest in shares:
        if not 0 <= share <= highest:
            raise UsageError(f"{option} {share:g}: it must lie between 0 and {highest:g}")
    if not 0.1 <= fps <= 240:
        raise UsageError(f"--fps {fps:g}: it must lie between 0.1 and 240")
    if max_seconds is not None and not max_seconds > 0:
        raise UsageError(f"--max-seconds {max_seconds:g}: it must be above 0")
    if not (limits[0] > 0 and limits[1] > 0 and limits[2] >= 0):
        raise UsageError("--record-file-mb and --record-file-minutes must be above 0")
    if engine_fallback:
        raise UsageError(
            "--allow-cpu-fallback: an engine runs on its GPU alone; give an .onnx file"
        )
    if clean_alone:
        raise UsageError("--record-clean records beside the overlay: give --record FOLDER")


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
    runner: Runner, crop: bool, weight: float, hysteresis: float
) -> Callable[[LiveRunner], FrameSegmenter]:
    from rwkv_edge.video.segmenting import FrameSegmenter
    from rwkv_edge.video.smoothing import Smoothing

    smoothing = Smoothing(weight=weight, hysteresis=hysteresis)
    size, names = runner.info.input_size, runner.info.names
    return lambda runner: FrameSegmenter(
        runner, size, names, smoothing=smoothing, crop_to_view=crop
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
