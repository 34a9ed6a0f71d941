"""The live page, from its options to a sink that the pipeline writes to."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rwkv_edge.config import RESEARCH_USE
from rwkv_edge.errors import MissingDependencyError

if TYPE_CHECKING:
    from rwkv_edge.video.live import Controls
    from rwkv_edge.web.hub import WebSink
    from rwkv_edge.web.options import WebOptions


@contextmanager
def live_page(
    controls: Controls, options: WebOptions, *, can_record: bool = True
) -> Iterator[tuple[WebSink, Callable[[], None]]]:
    """Serve the page while the block runs.

    Yields the sink for the pipeline's output, and what prints the address with its token to
    standard error, once there is something to see. A token that came from a file is not printed.

    Raises:
        MissingDependencyError: the extra 'web' is not installed.
        UsageError: unsafe or impossible options, before anything is opened.
        OutputError: the address is taken or not this machine's.
    """
    for package in ("starlette", "uvicorn", "websockets"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(package, "web", "the live page")
    from rwkv_edge.web.hub import WebSink
    from rwkv_edge.web.server import WebServer

    sink = WebSink(can_record=can_record)
    with WebServer(sink, controls, options) as server:

        def announce() -> None:
            given = options.token is not None
            where = f"{server.origin}/?token=(see --token-file)" if given else server.url
            print(f"live page: {where}", file=sys.stderr)
            print(f"whoever has this address can watch and record; {RESEARCH_USE}", file=sys.stderr)

        try:
            yield sink, announce
        finally:
            sink.close()
