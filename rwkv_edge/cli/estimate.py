"""`rwkv-edge estimate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rwkv_edge.cli.loading import ImgszOption, require_onnx
from rwkv_edge.cli.outputs import CsvOption, JsonOption
from rwkv_edge.cli.ranges import at_least, between
from rwkv_edge.config import DEFAULT_IMGSZ, DEFAULT_VARIANT, MAX_BATCH, RESEARCH_USE

if TYPE_CHECKING:
    from rwkv_edge.bench.graph import Node
    from rwkv_edge.bench.roofline import Rates

    Target = tuple[str, str, Rates]

_NOTE = "an estimate from the graph and published figures, not a measurement"


def estimate(
    device: Annotated[str, typer.Option(help="A Jetson, as orin-nano-8gb, or all.")] = "all",
    power_mode: Annotated[
        str | None, typer.Option(help="normal or super. Default: each that the device has.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "fp16",
    model: Annotated[
        Path | None, typer.Option(help="File of rwkv-edge export. Default: the variant's.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="tiny, small, base or unet, trained or not.")
    ] = None,
    imgsz: ImgszOption = None,
    batch: Annotated[
        int, typer.Option(help="Frames in one call.", callback=between(1, MAX_BATCH))
    ] = 1,
    top: Annotated[
        int,
        typer.Option(help="How many of the most expensive groups to list.", callback=at_least(0)),
    ] = 10,
    json: JsonOption = None,
    csv: CsvOption = None,
) -> None:
    """Estimate latency on a Jetson from the graph: a roofline, not a measurement.

    The bound is what memory bandwidth and arithmetic allow at best, with
    everything fused that can be. The likely range takes the shares of these
    that kernels usually reach, and the launches. Inference alone: neither
    copies from the host nor pre- and postprocessing. Bandwidth, rates and
    their sources: rwkv_edge/bench/devices.py.

    Example: rwkv-edge estimate --device orin-nano-8gb --power-mode super
    """
    from rwkv_edge.errors import UsageError

    require_onnx("reading the graph")
    if model is not None and (variant is not None or imgsz is not None):
        raise UsageError("--model excludes --variant and --imgsz: the file has both in it")

    from rwkv_edge.bench.graph import read_nodes
    from rwkv_edge.cli.console import write_json_option
    from rwkv_edge.export.graph import input_shape, read_onnx, set_batch
    from rwkv_edge.files import write_text

    targets = _targets(device, power_mode, precision)
    path = model or _graph_of(variant or DEFAULT_VARIANT, imgsz)
    graph = read_onnx(path)
    if input_shape(graph)[0] not in (0, batch):
        graph = set_batch(graph, batch)
    nodes = read_nodes(graph, batch)
    rows = [_row(target, nodes, precision, batch, top) for target in targets]
    found = {
        "note": _NOTE,
        "use": RESEARCH_USE,
        "model": str(path),
        "input_shape": [batch, *input_shape(graph)[1:]],
        "precision": precision,
        "estimates": rows,
    }
    if csv is not None:
        write_text(csv, _to_csv(rows))
    _show(found, to_stderr=json == "-")
    if json is not None:
        write_json_option(json, found)


def _targets(device: str, power_mode: str | None, precision: str) -> list[Target]:
    """Return the devices and modes that were asked for and whose figures are known.

    Raises:
        UsageError: an unknown device, mode or precision, or no figures for any.
    """
    from rwkv_edge.bench.devices import DEVICES, PRECISIONS, device_rates
    from rwkv_edge.errors import UsageError

    if device not in ("all", *DEVICES):
        raise UsageError(f"--device {device}: choose one of all, {', '.join(DEVICES)}")
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision}: choose one of {', '.join(PRECISIONS)}")
    names = list(DEVICES) if device == "all" else [device]
    modes = {mode for name in names for mode in DEVICES[name].modes}
    if power_mode is not None and power_mode not in modes:
        raise UsageError(f"--power-mode {power_mode}: {device} has {', '.join(sorted(modes))}")
    targets = []
    for name in names:
        for mode_name, mode in DEVICES[name].modes.items():
            if power_mode in (None, mode_name):
                rates = device_rates(DEVICES[name], mode, precision)
                if rates is not None:
                    targets.append((name, mode_name, rates))
                    continue
                print(
                    f"left out: {name}: no dense {precision} figure is published", file=sys.stderr
                )
    if not targets:
        raise UsageError(f"--precision {precision}: no dense figure is published for {device}")
    return targets


def _graph_of(variant: str, imgsz: str | None) -> Path:
    """Return an ONNX file of a variant; the weights are of no matter, so fresh ones will do."""
    from rwkv_edge.cli.candidates import untrained_checkpoint
    from rwkv_edge.cli.loading import export_to_cache, parse_imgsz
    from rwkv_edge.errors import CheckpointError
    from rwkv_edge.weights import shipped_onnx

    size = parse_imgsz(imgsz) if imgsz else None
    if size in (None, (DEFAULT_IMGSZ, DEFAULT_IMGSZ)):
        try:
            return shipped_onnx(variant)
        except CheckpointError:
            pass  # none ships
    return export_to_cache(untrained_checkpoint(variant), None, size)


def _row(
    target: Target, nodes: Sequence[Node], precision: str, batch: int, top: int
) -> dict[str, Any]:
    from dataclasses import asdict

    from rwkv_edge.bench.devices import GPU_EFFICIENCY
    from rwkv_edge.bench.roofline import estimate as estimate_nodes

    name, mode, rates = target
    result = estimate_nodes(nodes, rates, GPU_EFFICIENCY, precision)
    low, high = result.likely_s
    return {
        "device": name,
        "power_mode": mode,
        "bound_ms": result.bound_s * 1e3,
        "likely_ms": [low * 1e3, high * 1e3],
        "fps_at_most": batch / result.bound_s,
        "likely_fps": [batch / high, batch / low],
        "megabytes": result.bytes / 1e6,
        "giga_multiply_adds": result.operations / 2e9,
        "launches": list(result.launches),
        "rates": asdict(rates),
        "most_expensive": [asdict(cost) for cost in result.most_expensive[:top]],
    }


def _to_csv(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"# {_NOTE}; {RESEARCH_USE}"]
    lines.append("device,power_mode,bound_ms,likely_low_ms,likely_high_ms,fps_low,fps_high")
    for row in rows:
        figures = [row["bound_ms"], *row["likely_ms"], *row["likely_fps"]]
        words = [row["device"], row["power_mode"], *(f"{figure:.4f}" for figure in figures)]
        lines.append(",".join(words))
    return "\n".join(lines) + "\n"


def _show(found: dict[str, Any], *, to_stderr: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    rows = found["estimates"]
    shape = "x".join(map(str, found["input_shape"]))
    console.print(f"{Path(found['model']).name}, {shape}, {found['precision']}", markup=False)
    fewest, most = rows[0]["launches"]
    console.print(
        f"{rows[0]['giga_multiply_adds']:.2f} G multiply-adds, "
        f"{rows[0]['megabytes']:.0f} MB moved, {fewest} to {most} launches"
    )
    table = Table("device", "mode", box=SIMPLE_HEAD)
    for column in ("bound, ms", "likely, ms", "likely frames a second"):
        table.add_column(column, justify="right")
    for row in rows:
        (low, high), (slow, fast) = row["likely_ms"], row["likely_fps"]
        table.add_row(
            row["device"],
            row["power_mode"],
            f"{row['bound_ms']:.2f}",
            f"{low:.1f} to {high:.1f}",
            f"{slow:.0f} to {fast:.0f}",
        )
    console.print(table)
    expensive = rows[0]["most_expensive"]
    if expensive:
        console.print(f"the most expensive on {rows[0]['device']}, {rows[0]['power_mode']}:")
        table = Table("node", "fused with", box=SIMPLE_HEAD)
        for column in ("MB", "MFLOP", "us", "share", "limit"):
            table.add_column(column, justify="right")
        for cost in expensive:
            table.add_row(
                cost["name"],
                cost["operators"],
                f"{cost['bytes'] / 1e6:.2f}",
                f"{cost['operations'] / 1e6:.0f}",
                f"{cost['bound_s'] * 1e6:.1f}",
                f"{100 * cost['bound_s'] * 1e3 / rows[0]['bound_ms']:.1f} %",
                cost["limit"],
            )
        console.print(table)
    console.print(f"{_NOTE[0].upper()}{_NOTE[1:]}; inference alone; {RESEARCH_USE}.")
