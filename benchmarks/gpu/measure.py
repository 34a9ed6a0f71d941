"""What the scripts of this folder share: the device, its clock, its copy bandwidth, the report."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rwkv_edge.bench.timing import describe_machine

Call = Callable[[], object]
WARM_UP = 3
COPY_BYTES = 1 << 30


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every script has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("gpu-results"), help="for the results")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="tiny sizes on the CPU: shows that the script works; nothing is written",
    )
    return parser


def open_device(dry_run: bool) -> torch.device:
    """The GPU, or in a dry run the CPU; says which, and leaves where there is no GPU."""
    if dry_run:
        print("DRY RUN on the CPU: every time below is meaningless, and no results are written")
        torch.set_num_threads(1)
        return torch.device("cpu")
    if not torch.cuda.is_available():
        sys.exit("error: Torch sees no CUDA GPU here; --dry-run tries the script on the CPU")
    device = torch.device("cuda", torch.cuda.current_device())
    for key, value in describe_gpu().items():
        print(f"{key}: {value}")
    return device


def describe_gpu() -> dict[str, str]:
    """Machine, GPU, driver, CUDA, Torch and commit."""
    machine = describe_machine("torch")
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    except OSError:
        driver = ""
    return {
        **machine,
        "gpu": f"{properties.name}, {properties.multi_processor_count} SMs, "
        f"{properties.total_memory / 2**30:.0f} GiB, sm_{properties.major}{properties.minor}",
        "driver": (driver.split() or ["unknown"])[0],
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
    }


def wait(device: torch.device) -> None:
    """Until all that is queued is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def capture(calls: Sequence[Call]) -> torch.cuda.CUDAGraph:
    """All calls in one CUDA graph, after a warm-up on another stream."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            for call in calls:
                call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph


def time_replays(calls: Sequence[Call], device: torch.device, rounds: int) -> list[float]:
    """Seconds of a call: CUDA events around replays of a graph that holds all calls.

    On the CPU, in a dry run: the calls themselves, by the host's clock.
    """
    if device.type != "cuda":
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            for call in calls:
                call()
            times.append((time.perf_counter() - begun) / len(calls))
        return times
    graph = capture(calls)
    for _ in range(WARM_UP):
        graph.replay()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    for begin, end in events:
        begin.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) / 1e3 / len(calls) for begin, end in events]


def time_calls(call: Call, device: torch.device, rounds: int) -> list[float]:
    """Seconds from each call until its result is there, the host's part included."""
    for _ in range(WARM_UP):
        call()
    wait(device)
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        wait(device)
        times.append(time.perf_counter() - begun)
    return times


def copy_bandwidth(device: torch.device, dry_run: bool) -> float:
    """Bytes a second, read and written, of a copy too large for any cache."""
    source = torch.zeros(1 << 20 if dry_run else COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = time_replays([lambda: target.copy_(source)], device, 3 if dry_run else 30)
    return 2 * source.nbytes / statistics.median(times)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds: median, ninetieth and ninety-ninth percentile."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50_ms": cuts[49] * 1e3, "p90_ms": cuts[89] * 1e3, "p99_ms": cuts[98] * 1e3}


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table whose columns are the keys of the rows; numbers with three digits."""
    columns = list(dict.fromkeys(key for row in rows for key in row))

    def cell(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)

    lines = [columns, ["---"] * len(columns)]
    lines += [[cell(row.get(column)) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_report(
    options: argparse.Namespace, name: str, rows: Sequence[Mapping[str, Any]], **more: object
) -> None:
    """Print the table; write DIR/NAME.json and DIR/NAME.md, unless this is a dry run."""
    table = markdown(rows)
    print(f"\n{table}")
    if options.dry_run:
        print(f"DRY RUN: {name}.json is not written")
        return
    options.output.mkdir(parents=True, exist_ok=True)
    machine = describe_gpu()
    report = {"machine": machine, "command": sys.argv, "rows": list(rows), **more}
    (options.output / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    about = "\n".join(f"- {key}: {value}" for key, value in machine.items())
    (options.output / f"{name}.md").write_text(f"{about}\n\n{table}\n")
    print(f"written: {options.output / name}.json and .md")
