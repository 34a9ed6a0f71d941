"""Hours in minutes: a stream with an outage every half minute, whose memory, handles, threads and
latency must stay flat. `python -m tests.faults.soak --minutes 20`; --leak shows that it can fail.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from scipy import stats

from tests.faults.processes import RtspServer, Stream, free_port, live, write_stream

OUTAGE_EVERY_S, OUTAGE_S = 30.0, 3.0
SAMPLE_S = 2.0
LOOKS, LOOK_S = 20, 0.011  # at the memory, for one sample
WARM_UP = 0.1  # share of the time in which caches and pools may still fill
BLOCKS = 12  # samples that follow each other are alike: only means of blocks count as measurements
MAX_MB_AN_HOUR = 1.0
MAX_LATENCY_GROWTH = 1.05
_LEAK = (
    "import threading, time, sys; kept = []\n"
    "def leak():\n"
    "    while True: kept.append(bytearray(100_000)); time.sleep(0.05)\n"
    "threading.Thread(target=leak, daemon=True).start()\n"
    "from rwkv_edge.cli import main; main(sys.argv[1:])\n"
)


@dataclass
class Record:
    """What was measured, with its times in seconds."""

    times: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    ages: list[tuple[float, float]] = field(default_factory=list)
    """Time in seconds and age in ms of every picture shown with its mask."""


def slope(times: Sequence[float], values: Sequence[float]) -> tuple[float, float, float]:
    """Return the slope an hour and its 95 % confidence interval, from the means of blocks."""
    blocks = [
        (np.mean(t), np.mean(v))
        for t, v in zip(
            np.array_split(np.array(times), BLOCKS),
            np.array_split(np.array(values, float), BLOCKS),
            strict=True,
        )
    ]
    fit = stats.linregress(*zip(*blocks, strict=True))
    half = float(stats.t.ppf(0.975, BLOCKS - 2) * fit.stderr)
    return 3600 * fit.slope, 3600 * (fit.slope - half), 3600 * (fit.slope + half)


def judge(record: Record) -> tuple[list[str], list[str]]:
    """Return what was found, in lines, and those of them that are failures."""
    said, failed = [], []

    def say(line: str, good: bool) -> None:
        said.append(line)
        if not good:
            failed.append(line)

    start = record.times[0] + WARM_UP * (record.times[-1] - record.times[0])
    kept = [index for index, time_s in enumerate(record.times) if time_s >= start]
    times = [record.times[index] for index in kept]
    an_hour, low, high = slope(times, [record.megabytes[index] for index in kept])
    unsure = "; too short or too uneven to be sure" if low <= MAX_MB_AN_HOUR < high else ""
    say(
        f"memory: {an_hour:+.2f} MB an hour, 95 % between {low:+.2f} and {high:+.2f}{unsure}",
        low <= MAX_MB_AN_HOUR,
    )
    for name, values in (("handles", record.handles), ("threads", record.threads)):
        tenth = max(1, len(kept) // 10)
        first = float(np.median([values[index] for index in kept[:tenth]]))
        last = float(np.median([values[index] for index in kept[-tenth:]]))
        say(f"{name}: {first:g} at the beginning, {last:g} at the end", last <= first)
    ages = [age for time_s, age in record.ages if time_s >= start]
    tenth = len(ages) // 10
    first, last = (
        float(np.percentile(part, 99)) for part in (ages[:tenth], ages[len(ages) - tenth :])
    )
    say(
        f"age at display, p99: {first:.1f} ms in the first tenth, {last:.1f} ms in the last",
        last <= MAX_LATENCY_GROWTH * first,
    )
    return said, failed


def least_megabytes(status: Path) -> float:
    """Return the least resident memory over some frames.

    Pictures on their way come and go, some MB; one look every two seconds would beat with the
    frames and show waves of minutes.
    """
    found = []
    for _ in range(LOOKS):
        found.append(int(read_status(status)["VmRSS"].split()[0]) / 1024)
        time.sleep(LOOK_S)
    return min(found)


def read_status(status: Path) -> dict[str, str]:
    """Return what the kernel says about a process."""
    return dict(line.split(":", 1) for line in status.read_text().splitlines())


def measure(minutes: float, leak: bool, folder: Path) -> Record:
    """Stream for so long, with outages: frozen and killed servers in turn."""
    write_stream(folder / "live.mp4", 20)
    port, record = free_port(), Record()
    server = RtspServer(folder, port)
    source = f"rtsp://127.0.0.1:{port}/live.mp4?play_count=0"
    starter = [sys.executable, "-c", _LEAK] if leak else None
    read, kinds = 0, itertools.cycle(("frozen", "killed"))
    with Stream(source, folder, starter=starter) as stream:
        stream.wait_for(live, 30)
        began = outage = time.monotonic()
        try:
            while time.monotonic() - began < 60 * minutes:
                time.sleep(SAMPLE_S)
                now = time.monotonic()
                if now - outage > OUTAGE_EVERY_S:
                    outage = now
                    if next(kinds) == "frozen":
                        server.send(signal.SIGSTOP)
                        time.sleep(OUTAGE_S)
                        server.send(signal.SIGCONT)
                    else:
                        with server:
                            pass
                        time.sleep(OUTAGE_S)
                        server = RtspServer(folder, port)
                    stream.wait_for(live, 10)
                proc = Path(f"/proc/{stream.child.pid}")
                record.times.append(now - began)
                record.megabytes.append(least_megabytes(proc / "status"))
                record.threads.append(int(read_status(proc / "status")["Threads"]))
                record.handles.append(len(list((proc / "fd").iterdir())))
                with stream.lines.open() as lines:
                    lines.seek(read)
                    new = lines.read()
                new = new[: new.rfind("\n") + 1]
                read += len(new.encode())
                for line in map(json.loads, new.splitlines()):
                    if line["result"] is not None:
                        record.ages.append((now - began, line["age_ms"]))
        finally:
            with server:
                pass
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--output", type=Path, help="write what was measured to this file, as JSON")
    parser.add_argument("--leak", action="store_true", help="leak 2 MB a second: it must fail")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = measure(options.minutes, options.leak, Path(folder))
    if options.output:
        options.output.write_text(json.dumps(asdict(record)))
    said, failed = judge(record)
    print("\n".join(said))
    for line in failed:
        print(f"FAILED: {line}", file=sys.stderr)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
