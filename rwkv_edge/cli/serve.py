"""`rwkv-edge serve`."""

from __future__ import annotations

import inspect
from typing import Any

from rwkv_edge.cli.stream import stream


def serve(**options: Any) -> None:
    """Segment a live source and show it in the browser, without a window.

    The same as stream --web --headless, with the same options.

    Example: rwkv-edge serve --source rtsp://192.168.0.10/live
    """
    stream(web=True, headless=True, **options)


_signature = inspect.signature(stream, eval_str=True)
# one definition of the options: those of `stream`, less the two that are settled
serve.__signature__ = _signature.replace(  # type: ignore[attr-defined]
    parameters=[
        parameter
        for name, parameter in _signature.parameters.items()
        if name not in ("web", "headless")
    ]
)
