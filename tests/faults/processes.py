"""The processes of a fault test: an RTSP server, and `rwkv-edge stream`, whose lines are read."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
RATE = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_stream(
    path: Path, seconds: float, size: tuple[int, int] = (480, 640), noise: int = 0
) -> Path:
    """Encode what a camera sends: a bright square that moves, two key frames a second."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(RATE // 2)}
        for index in range(round(seconds * RATE)):
            image = np.full((*size, 3), 60, np.uint8)
            image += rng.integers(0, noise + 1, image.shape, np.uint8)
            left = size[1] // 4 + 2 * (index % 30)
            image[size[0] // 3 : size[0] // 2, left : left + size[1] // 5] = 230
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def write_cheap_model(path: Path) -> Path:
    """A model of microseconds that knows one thing: bright is polyp."""
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real"], ["grey"], axes=[3], keepdims=0),
        helper.make_node("Unsqueeze", ["grey", "axis"], ["plane"]),
        helper.make_node("Mul", ["plane", "scale"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 64, 64, 3])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [1, 1, 64, 64])],
        [
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
            numpy_helper.from_array(np.array(1 / 255, np.float32), "scale"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


class Process:
    """A child that is gone when the block ends, frozen or not."""

    def __init__(
        self, words: Sequence[str], environment: dict[str, str] | None = None, **options: Any
    ) -> None:
        self.child = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            **options,
        )

    def send(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def wait(self, seconds: float) -> int:
        return self.child.wait(seconds)

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.child.kill()
        self.child.communicate()


class RtspServer(Process):
    def __init__(
        self, folder: Path, port: int, credentials: str = "", log: Path | None = None
    ) -> None:
        words = [str(HERE / "rtsp_server.py"), str(folder), str(port), credentials]
        super().__init__([sys.executable, *words, str(log or "")])
        assert self.child.stdout is not None
        while (line := self.child.stdout.readline()) and line != "ready\n":
            pass
        assert line == "ready\n", self.child.stderr and self.child.stderr.read()


class Stream(Process):
    """`rwkv-edge stream --headless` on a cheap model; its JSON lines go into a file."""

    def __init__(
        self,
        source: str,
        folder: Path,
        *words: str,
        starter: Sequence[str] | None = None,
        environment: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.lines = folder / "lines.jsonl"
        self.lines.unlink(missing_ok=True)
        model = folder / "cheap.onnx"
        if not model.exists():
            write_cheap_model(model)
        command = [*(starter or (sys.executable, "-m", "rwkv_edge"))]
        command += ["stream", f"--source={source}"]
        command += ["--headless", "--model", str(model), "--backend", "onnxruntime"]
        command += ["--json", str(self.lines), *words]
        super().__init__(command, environment, **options)

    def read(self, start: int = 0) -> list[dict[str, Any]]:
        if not self.lines.exists():
            return []
        text = self.lines.read_text().split("\n")[:-1]
        return [json.loads(line) for line in text[start:]]

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], seconds: float) -> float:
        """Wait for a new line; return how long it took."""
        count, began = len(self.read()), time.monotonic()
        while time.monotonic() - began < seconds:
            if any(wanted(line) for line in self.read(count)):
                return time.monotonic() - began
            if self.child.poll() is not None:
                raise AssertionError(self.output()[1])
            time.sleep(0.05)
        raise AssertionError(f"nothing of that kind within {seconds:g} s: {self.read()[-2:]}")

    def output(self, seconds: float = 10) -> tuple[str, str]:
        """Wait for the end; return what was printed."""
        return self.child.communicate(timeout=seconds)


def live(line: dict[str, Any]) -> bool:
    return line["signal"] == "LIVE" and line["result"] is not None


def lost(line: dict[str, Any]) -> bool:
    return line["signal"] != "LIVE" and line["result"] is None


def rates(lines: Sequence[dict[str, Any]]) -> list[int]:
    """Results in each whole second: their median survives a moment of the machine's other work."""
    times = [line["time_s"] for line in lines if line["result"] is not None]
    counts, _ = np.histogram(times, np.arange(times[0], times[-1], 1.0))
    return [int(count) for count in counts]
