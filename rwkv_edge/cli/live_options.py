"""The options of `rwkv-edge stream` and `serve`, and what is refused of them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rwkv_edge.cli.outputs import writable_file
from rwkv_edge.cli.ranges import above, at_least, between
from rwkv_edge.config import ENGINE_SUFFIXES, Outside

_SOURCE, _PICTURE, _OUTPUT, _PAGE = "Source", "Picture", "Output", "Live page"
"""The parts of the help, which would be one long list."""

SourceOption = Annotated[
    str,
    typer.Option(
        help="rtsp://, http://, a camera's index, v4l2:///dev/video0, csi://0, a GStreamer "
        "pipeline, or a file, folder or pattern, played at its own rate.",
        rich_help_panel=_SOURCE,
    ),
]
CpuFallbackOption = Annotated[
    bool,
    typer.Option(
        "--allow-cpu-fallback", help="Go on in ONNX Runtime if the backend fails, and say so."
    ),
]
HeadlessOption = Annotated[
    bool,
    typer.Option(
        "--headless",
        help="Open no window. Its keys: q or Esc ends, space freezes, r records, c: contour.",
        rich_help_panel=_OUTPUT,
    ),
]
RecordOption = Annotated[
    Path | None,
    typer.Option(help="Record into this folder, from the start.", rich_help_panel=_OUTPUT),
]
RecordCleanOption = Annotated[
    bool,
    typer.Option(
        "--record-clean",
        help="Also record the picture without the overlay.",
        rich_help_panel=_OUTPUT,
    ),
]
RecordFileMbOption = Annotated[
    float,
    typer.Option(
        help="Begin a new file after so many megabytes.",
        callback=above(0),
        rich_help_panel=_OUTPUT,
    ),
]
RecordFileMinutesOption = Annotated[
    float,
    typer.Option(
        help="Begin a new file after so many minutes.",
        callback=above(0),
        rich_help_panel=_OUTPUT,
    ),
]
RecordFreeMbOption = Annotated[
    float,
    typer.Option(
        help="Stop recording when less than this is free on the disk.",
        callback=at_least(0),
        rich_help_panel=_OUTPUT,
    ),
]
JsonOption = Annotated[
    str | None,
    typer.Option(
        help="Write JSON lines to this file, or to - (standard output).",
        callback=writable_file,
        rich_help_panel=_OUTPUT,
    ),
]
SummaryOption = Annotated[
    str | None,
    typer.Option(
        help="Write the summary as JSON to this file, or to -.",
        callback=writable_file,
        rich_help_panel=_OUTPUT,
    ),
]
OutputRtspOption = Annotated[
    str | None,
    typer.Option(
        help="Publish the screen to an RTSP server: rtsp://HOST:PORT/PATH.", rich_help_panel=_OUTPUT
    ),
]
OutputCredentialsOption = Annotated[
    Path | None,
    typer.Option(
        help="File with user and password of that server, a line each.", rich_help_panel=_OUTPUT
    ),
]
ConfOption = Annotated[
    float,
    typer.Option(
        help="Probability from which a pixel counts, 0 to 1.",
        callback=between(0, 1),
        rich_help_panel=_PICTURE,
    ),
]
AlphaOption = Annotated[
    float,
    typer.Option(
        help="Opacity of the fill, 0 to 1.", callback=between(0, 1), rich_help_panel=_PICTURE
    ),
]
CropFovOption = Annotated[
    bool,
    typer.Option(
        "--crop-fov/--no-crop-fov",
        help="Show the network the endoscope's field of view alone.",
        rich_help_panel=_PICTURE,
    ),
]
OutsideOption = Annotated[
    Outside,
    typer.Option(
        help="What the screen, the page and recordings show outside the field of view, where "
        "patient data is written. black and crop leave nothing of it.",
        rich_help_panel=_PICTURE,
    ),
]
SmoothingOption = Annotated[
    float,
    typer.Option(
        help="Share of the past in the averaged probabilities, 0 to 0.95.",
        callback=between(0, 0.95),
        rich_help_panel=_PICTURE,
    ),
]
HysteresisOption = Annotated[
    float,
    typer.Option(
        help="How far below --conf a pixel may fall before it is dropped, 0 to 0.5.",
        callback=between(0, 0.5),
        rich_help_panel=_PICTURE,
    ),
]
CredentialsOption = Annotated[
    Path | None,
    typer.Option(
        help="File with user and password, a line each. Else RWKV_EDGE_RTSP_USER and "
        "RWKV_EDGE_RTSP_PASSWORD are used.",
        rich_help_panel=_SOURCE,
    ),
]
RtspTransportOption = Annotated[str, typer.Option(help="tcp or udp.", rich_help_panel=_SOURCE)]
FpsOption = Annotated[
    float,
    typer.Option(
        help="Rate of an image sequence.", callback=between(0.1, 240), rich_help_panel=_SOURCE
    ),
]
MaxSecondsOption = Annotated[
    float | None,
    typer.Option(help="End after so many seconds.", callback=above(0), rich_help_panel=_SOURCE),
]
WebOption = Annotated[
    bool,
    typer.Option(
        "--web",
        help="Serve a live page, to this machine unless --host says.",
        rich_help_panel=_PAGE,
    ),
]
HostOption = Annotated[
    str,
    typer.Option(
        help="Address to serve the page on. 0.0.0.0: all, for other machines.",
        rich_help_panel=_PAGE,
    ),
]
PortOption = Annotated[
    int, typer.Option(help="Port of the page; 0 takes any free one.", rich_help_panel=_PAGE)
]
CertOption = Annotated[
    Path | None,
    typer.Option(help="Certificate (PEM): the page is served by HTTPS.", rich_help_panel=_PAGE),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(help="Its private key (PEM), where it is apart.", rich_help_panel=_PAGE),
]
PlainHttpOption = Annotated[
    bool,
    typer.Option(
        "--insecure-plain-http",
        help="Serve other machines unencrypted: everybody on the network can read along.",
        rich_help_panel=_PAGE,
    ),
]
AllowHostOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A further host name to answer to, such as one of your DNS. Repeatable.",
        rich_help_panel=_PAGE,
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        help="File with the access token. Default: a new random one, printed once.",
        rich_help_panel=_PAGE,
    ),
]

WebRtcOption = Annotated[
    bool,
    typer.Option(
        "--webrtc/--no-webrtc",
        help="Offer other machines the picture by WebRTC, too, if aiortc is installed.",
        rich_help_panel=_PAGE,
    ),
]


def check_companions(options: dict[str, Any], companion: str) -> None:
    """Refuse options that would do nothing without another one.

    Raises:
        UsageError: one of them is given.
    """
    from rwkv_edge.errors import UsageError

    for option, value in options.items():
        if value:
            raise UsageError(f"{option} does nothing without {companion}: add it")


def check_fallback(*models: Path | None) -> None:
    """Refuse `--allow-cpu-fallback` beside a model that no processor runs.

    Raises:
        UsageError: one of the models is an engine.
    """
    from rwkv_edge.errors import UsageError

    if any(model and model.suffix in ENGINE_SUFFIXES for model in models):
        raise UsageError(
            "--allow-cpu-fallback: an engine runs on its GPU alone; give an .onnx file"
        )
