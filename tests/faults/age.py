"""How old a picture is when it is shown, by the clock of the server that sent it: the server notes
when it sent the last packet of each frame, and a reader of the JSON lines when the result of that
frame was there. `python -m tests.faults.age --model tiny.onnx`; docs/live.md says what came out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.faults.processes import RATE, RtspServer, free_port, write_cheap_model, write_stream

WARM_UP_S = 3.0


def measure(folder: Path, seconds: float, words: list[str]) -> dict[str, np.ndarray]:
    """Stream for so long; return milliseconds by name, one for each frame that was shown."""
    write_stream(folder / "live.mp4", 20)
    port, log = free_port(), folder / "sent.txt"
    command = [sys.executable, "-m", "rwkv_edge", "stream", "--headless", "--json", "-"]
    command += ["--source", f"rtsp://127.0.0.1:{port}/live.mp4?play_count=0"]
    command += ["--max-seconds", f"{seconds + WARM_UP_S:g}", *words]
    shown = []
    with (
        RtspServer(folder, port, log=log),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as stream,
    ):
        assert stream.stdout is not None
        for line in stream.stdout:
            now = time.monotonic()
            if line.startswith(b'{"time_s"'):
                shown.append((now, json.loads(line)))
    if stream.returncode or any(line["signal"] != "LIVE" for _, line in shown):
        raise SystemExit("the stream failed, or the connection was lost: measure again")
    # the last connection's: the first asks what there is to see
    sent = np.array([float(text) for text in log.read_text().split("connected")[-1].split()])
    late = sent - np.arange(len(sent)) / RATE
    late -= late.min()
    kept = [(now, line) for now, line in shown if line["result"] and line["time_s"] > WARM_UP_S]
    index = np.array([line["result"]["frame"] for _, line in kept])
    inference = np.array([line["result"]["latency_ms"]["inference"] for _, line in kept])
    total = 1e3 * (np.array([now for now, _ in kept]) - sent[index])
    return {
        "the server sent it late": 1e3 * late[index],
        "from the server's last packet to the result": total,
        "of these, inference": inference,
        "and the rest": total - inference,
        "age as the screen says": np.array([line["age_ms"] for _, line in kept]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", help="default: one of a millisecond")
    parser.add_argument("--backend", default="onnxruntime")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        model = options.model or str(write_cheap_model(Path(name) / "cheap.onnx"))
        words = ["--model", model, "--backend", options.backend]
        found = measure(Path(name), options.seconds, words)
    print("| ms | p50 | p90 | p99 |\n|---|---|---|---|")
    for what, values in found.items():
        ranks = np.percentile(values, (50, 90, 99))
        print(f"| {what} | " + " | ".join(f"{value:.0f}" for value in ranks) + " |")
    rest = found["and the rest"]
    print(f"{len(rest)} frames with their mask; p99 allowed for the rest: {2e3 / RATE:.0f} ms")


if __name__ == "__main__":
    main()
