"""`rwkv-edge build`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkv_edge.cli.loading import ImgszOption, VariantOption, WeightsOption, require_onnx
from rwkv_edge.cli.outputs import writable_file
from rwkv_edge.cli.ranges import at_least, between
from rwkv_edge.config import DEFAULT_MAX_DICE_DROP, ENGINE_SUFFIXES, MAX_BATCH

if TYPE_CHECKING:
    from rwkv_edge.cli.engine import Request
    from rwkv_edge.runtime.build import Batch

_PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_MIB = 1 << 20


def build(
    context: typer.Context,
    variant: VariantOption = None,
    weights: WeightsOption = None,
    onnx: Annotated[
        Path | None, typer.Option(help="File of rwkv-edge export instead of a checkpoint.")
    ] = None,
    imgsz: ImgszOption = None,
    batch: Annotated[
        str, typer.Option(help="Pictures in one call: N, or MIN,OPT,MAX for a range.")
    ] = "1",
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, bf16 or int8. Default: fp32.")
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Short for --precision fp16.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Short for --precision int8.")] = False,
    backend: Annotated[str, typer.Option(help="auto, tensorrt or tensorrt-rtx.")] = "auto",
    compute_capability: Annotated[
        str | None,
        typer.Option(help="Build ahead of time for another GPU, as 8.6 (TensorRT-RTX only)."),
    ] = None,
    calib: Annotated[
        Path | None,
        typer.Option(help="Folder of images for the gate and for int8. Default: rendered ones."),
    ] = None,
    max_dice_drop: Annotated[
        float,
        typer.Option(help="Largest loss of Dice against float32, 0 to 1.", callback=between(0, 1)),
    ] = DEFAULT_MAX_DICE_DROP,
    workspace: Annotated[
        int | None,
        typer.Option(
            help="Scratch memory of a layer in MiB. Default: TensorRT's.", callback=at_least(1)
        ),
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="File in which TensorRT keeps its timings.")
    ] = None,
    plugin: Annotated[
        Path | None, typer.Option(help="Folder of the compiled plugin. Default: in the cache.")
    ] = None,
    no_fold: Annotated[
        bool, typer.Option("--no-fold", help="Keep the network as it was trained: slower.")
    ] = False,
    no_plugin: Annotated[
        bool, typer.Option("--no-plugin", help="Build from TensorRT's own layers alone.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Engine to write. Default: MODEL-PRECISION.engine.", callback=writable_file
        ),
    ] = None,
) -> None:
    """Build a TensorRT engine that has passed the gate.

    A lower precision is compared with float32 first, then the engine itself
    where its GPU is here; it is refused if masks differ too much. Its
    manifest NAME.engine.json says what it was made from and for. Without
    --output, --no-fold or --plugin the cache keeps a copy of an engine that
    takes single frames, which run, stream, serve, eval, demo find.

    Example: rwkv-edge build --variant tiny --fp16
    """
    from rwkv_edge.errors import DataError, UsageError

    wanted = _precision(precision, fp16, int8)
    sizes = _batch(batch)
    compute_capability = _capability(compute_capability)
    if wanted == "int8" and calib is None:
        raise UsageError(
            "--int8 needs --calib DIR: ranges measured on rendered frames do not hold for real ones"
        )
    if calib is not None and not calib.is_dir():
        raise DataError(f"--calib {calib}: no such folder")
    if no_plugin and plugin is not None:
        raise UsageError("--plugin and --no-plugin exclude each other")
    if output is not None and output.suffix not in ENGINE_SUFFIXES:
        suffixes = " or ".join(ENGINE_SUFFIXES)
        raise UsageError(f"--output {output}: call it NAME{suffixes}, by which run knows engines")

    require_onnx("building an engine")

    from rwkv_edge.cli.engine import Request, choose_backend, find_onnx, make_engine
    from rwkv_edge.files import check_writable
    from rwkv_edge.runtime.build import Target, check_target
    from rwkv_edge.runtime.machine import find_gpu
    from rwkv_edge.runtime.manifest import manifest_path

    gpu = find_gpu()
    target = Target(compute_capability, workspace * _MIB if workspace else None, timing_cache)
    chosen = choose_backend(backend, compute_capability, gpu)
    check_target(chosen, target)
    source = find_onnx(onnx, weights, variant, imgsz, folded=not no_fold)
    engine = output or Path(f"{source.stem}-{wanted}{ENGINE_SUFFIXES[0]}")
    check_writable(engine.parent)
    request = Request(
        source=source,
        engine=engine,
        precision=wanted,
        batch=sizes,
        backend=chosen,
        gpu=gpu,
        target=target,
        calib=calib,
        max_dice_drop=max_dice_drop,
        plugin=None if no_plugin else plugin,
        use_plugin=not no_plugin,
        command=_command(context),
    )
    make_engine(request)
    size = engine.stat().st_size / 1e6
    print(f"wrote {engine} ({size:.1f} MB) and {manifest_path(engine).name}")
    # run and eval look for the folded model, with the plugin of the cache, and give single frames
    is_usual = not no_fold and plugin is None and sizes.minimum == 1
    if output is None and request.runs_here and is_usual:
        _keep(request)


def _keep(request: Request) -> None:
    """Put the engine into the cache, too, where it is found without being named."""
    from rwkv_edge.cli.engine_cache import keep_engine
    from rwkv_edge.errors import RwkvEdgeError

    if request.gpu is None:
        return
    try:
        keep_engine(request.engine, request.backend, request.gpu)
    except RwkvEdgeError as error:  # the engine that was asked for is there
        print(f"warning: not kept in the cache: {error}", file=sys.stderr)
    else:
        print("kept in the cache, too: run, stream, serve, eval and demo take it for this model")


def _precision(precision: str | None, fp16: bool, int8: bool) -> str:
    from rwkv_edge.errors import UsageError

    given = {precision, "fp16" if fp16 else None, "int8" if int8 else None} - {None}
    if len(given) > 1:
        raise UsageError("give one precision: --precision, --fp16 and --int8 exclude each other")
    wanted = next(iter(given), None) or "fp32"
    if wanted not in _PRECISIONS:
        raise UsageError(f"--precision {wanted}: choose one of {', '.join(_PRECISIONS)}")
    return wanted


def _capability(text: str | None) -> str | None:
    """Return it as a GPU tells it, '8.7' for '87' too, so that the manifest can be compared."""
    from rwkv_edge.errors import UsageError

    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,2})\.?(\d)", text)
    if match is None:
        raise UsageError(f"--compute-capability {text}: give it as 8.7 or 87")
    return f"{match[1]}.{match[2]}"


def _batch(text: str) -> Batch:
    from rwkv_edge.errors import UsageError
    from rwkv_edge.runtime.build import Batch

    parts = text.split(",")
    if len(parts) in (1, 3) and all(part.strip().isdecimal() for part in parts):
        least, likeliest, largest = (int(part) for part in (parts * 3)[:3])
        if 1 <= least <= likeliest <= largest <= MAX_BATCH:
            return Batch(least, likeliest, largest)
    raise UsageError(
        f"--batch {text}: give N, or MIN,OPT,MAX in rising order, as 1,4,8, at most {MAX_BATCH}"
    )


def _command(context: typer.Context) -> tuple[str, ...]:
    """Return the words that build the same engine again: the options that were given."""
    from rwkv_edge.cli.console import given_options

    words = ["rwkv-edge", "build"]
    for option, value in given_options(context).items():
        words += [option] if value is True else [option, str(value)]
    return tuple(words)
