"""`rwkv-edge benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rwkv_edge.cli.loading import ImgszOption, NameOption
from rwkv_edge.cli.outputs import CsvOption, JsonOption
from rwkv_edge.cli.ranges import above, at_least, between
from rwkv_edge.config import DEFAULT_VARIANT, MAX_BATCH


def benchmark(
    model: Annotated[
        list[Path] | None,
        typer.Option(help="File to time: .onnx, .engine or .safetensors. Repeatable."),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Shipped weights: tiny, small, base, unet. Repeatable. Default: tiny."),
    ] = None,
    untrained: Annotated[
        bool,
        typer.Option("--untrained", help="Fresh weights for each --variant: enough for latency."),
    ] = False,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Runtime, as for rwkv-edge run. Repeatable. Default: auto."),
    ] = None,
    imgsz: ImgszOption = None,
    batch: Annotated[
        int, typer.Option(help="Frames in one call.", callback=between(1, MAX_BATCH))
    ] = 1,
    source: Annotated[
        str | None,
        typer.Option(help="Video, images or camera, as for run. Default: a rendered clip."),
    ] = None,
    frames: Annotated[
        int, typer.Option(help="Calls of each candidate.", callback=at_least(1))
    ] = 200,
    seconds: Annotated[
        float,
        typer.Option(
            help="A candidate's time; ends a slow benchmark before --frames.", callback=above(0)
        ),
    ] = 10.0,
    warm_up: Annotated[
        int, typer.Option(help="Calls before that do not count.", callback=at_least(0))
    ] = 10,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Of one inference on the CPU. Default: one a core.", callback=between(1, 1024)
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/benchmark/NAME.")
    ] = None,
    name: NameOption = "exp",
    json: JsonOption = None,
    csv: CsvOption = None,
    compare: Annotated[
        Path | None, typer.Option(help="benchmark.json of another run: print the ratios to it.")
    ] = None,
) -> None:
    """Time models and backends side by side, stage by stage.

    Candidates take turns on the same frames in one process, after a warm-up;
    each does --frames calls, or as many as fit --seconds (as trtexec's
    --iterations and --duration, but whichever ends first). Percentiles are of
    single calls (MLPerf's single stream). Outputs are checked before; what is
    wrong is not timed. The output folder gets benchmark.json with every call,
    benchmark.csv and latency.png. Research use only, not for diagnosis.

    Example: rwkv-edge benchmark --variant tiny --backend onnxruntime --backend torch
    """
    from rwkv_edge.bench.report import read_record
    from rwkv_edge.cli.loading import check_backend
    from rwkv_edge.errors import UsageError
    from rwkv_edge.files import check_writable

    for word in backend or []:
        check_backend(word)
    if untrained and not variant:
        raise UsageError("--untrained says nothing without --variant")
    check_writable(output or Path("runs/benchmark"))
    other = read_record(compare) if compare else None

    from rwkv_edge.cli.timed import Request, run_benchmark

    record = run_benchmark(
        Request(
            tuple(model or ()),
            tuple(variant or (() if model else (DEFAULT_VARIANT,))),
            untrained,
            tuple(dict.fromkeys(backend or ())),
            imgsz,
            batch,
            source,
            frames,
            seconds,
            warm_up,
            threads,
        )
    )
    _write(record, output, name, json, csv)
    _show(record, to_stderr=json == "-")
    if other is not None and compare is not None:
        _show_comparison(record, other, compare, to_stderr=json == "-")


def _write(
    record: dict[str, Any], output: Path | None, name: str, json: str | None, csv: Path | None
) -> None:
    import sys

    from rwkv_edge.bench.figures import draw_latency
    from rwkv_edge.bench.report import to_csv
    from rwkv_edge.cli.console import write_json_option
    from rwkv_edge.errors import MissingDependencyError
    from rwkv_edge.files import make_folder, new_run_folder, write_json, write_text

    folder = make_folder(output) if output else new_run_folder("benchmark", name)
    write_json(folder / "benchmark.json", record)
    write_text(folder / "benchmark.csv", to_csv(record))
    try:
        draw_latency(folder / "latency.png", record)
    except MissingDependencyError as error:
        print(f"warning: no latency.png: {error}", file=sys.stderr)
    if csv is not None:
        write_text(csv, to_csv(record))
    if json is not None:
        write_json_option(json, record)
    print(f"results: {folder}", file=sys.stderr if json == "-" else sys.stdout)


def _show(record: dict[str, Any], *, to_stderr: bool) -> None:
    """Print a table a candidate, the ratios to the first one, and what spoils the figures."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from rwkv_edge.bench.report import compare_within, warnings_of
    from rwkv_edge.config import RESEARCH_USE

    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    for label, candidate in record["candidates"].items():
        console.print(f"\n{label}", markup=False, style="bold")
        table = Table("ms a call", box=SIMPLE_HEAD)
        for column in ("mean", "p50", "p90", "p99", "max", "CV %"):
            table.add_column(column, justify="right")
        for stage, row in candidate["stages"].items():
            if stage == "total":
                table.add_section()
            digits = [f"{value:.2f}" for value in row.values()]
            table.add_row(stage, *digits)
        console.print(table)
        console.print(_words(candidate, record["batch"]), markup=False)
        console.print(f"  {candidate['backend']}; output: {candidate['check']}", markup=False)
    ratios = compare_within(record)
    if ratios:
        first = next(iter(record["candidates"]))
        console.print(f"\ntime as a share of {first}, 95 % confidence interval:", markup=False)
        for (label, stage), interval in ratios.items():
            console.print(f"  {label}, {stage}: {interval}", markup=False)
    console.print(f"\n{record['title']}; {RESEARCH_USE}", markup=False)
    for warning in warnings_of(record):
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"warning: {warning}", markup=False
        )


def _words(candidate: dict[str, Any], batch: int) -> str:
    power = candidate["power"]
    words = f"  {candidate['frames']} frames, {candidate['fps']:.1f} a second"
    if batch > 1:
        words += f" ({batch} in a call)"
    if candidate["loaded_mib"] is not None:
        words += f"; memory {candidate['loaded_mib']:.0f} MiB"
    if power["joules_per_frame"] is None:
        return f"{words}; joules a frame: not measured ({power['reason']})"
    return f"{words}; {power['joules_per_frame']:.3f} J a frame at {power['watts']:.1f} W"


def _show_comparison(
    record: dict[str, Any], other: dict[str, Any], path: Path, *, to_stderr: bool
) -> None:
    from rich.console import Console

    from rwkv_edge.bench.report import compare_records, matching

    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    console.print(f"\ntime as a share of {path} ({other['title']}), 95 % interval:", markup=False)
    for (label, stage), interval in compare_records(record, other, matching(record, other)).items():
        verdict = "" if interval.differs else ", no difference seen"
        console.print(f"  {label}, {stage}: {interval}{verdict}", markup=False)
    if other["batch"] != record["batch"] or other["machine"] != record["machine"]:
        console.print("  machine, versions or batch differ: the ratio is theirs too")
