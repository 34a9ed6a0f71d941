"""`rwkv-edge export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rwkv_edge.cli.loading import VariantOption, parse_imgsz, require_torch
from rwkv_edge.cli.outputs import writable_file
from rwkv_edge.cli.ranges import between
from rwkv_edge.config import MAX_BATCH


def export(
    variant: VariantOption = None,
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint. Default: the shipped one of the variant.")
    ] = None,
    imgsz: Annotated[
        str | None,
        typer.Option(help="SIDE or HEIGHTxWIDTH, multiples of 16. Default: the checkpoint's."),
    ] = None,
    batch: Annotated[
        int, typer.Option(help="Pictures in one call.", callback=between(1, MAX_BATCH))
    ] = 1,
    opset: Annotated[int, typer.Option(help="Version of ONNX's standard operators.")] = 18,
    no_fold: Annotated[
        bool, typer.Option("--no-fold", help="Keep the network as it was trained: slower.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write. Default: rwkv-unet-VARIANT-SIZE.onnx.", callback=writable_file
        ),
    ] = None,
) -> None:
    """Write one self-contained ONNX file and compare it with Torch.

    Example: rwkv-edge export --variant tiny --imgsz 256 --output tiny.onnx
    """
    require_torch("exporting")
    from rwkv_edge.config import DEFAULT_VARIANT
    from rwkv_edge.export.onnx import export_onnx
    from rwkv_edge.files import file_sha256
    from rwkv_edge.models import load_model
    from rwkv_edge.weights import shipped_checkpoint

    size = parse_imgsz(imgsz) if imgsz else None
    path = weights or shipped_checkpoint(variant or DEFAULT_VARIANT)
    network, info = load_model(path, variant)
    height, width = size or info.imgsz
    label = f"{height}" if height == width else f"{height}x{width}"
    report = export_onnx(
        network,
        info,
        output or Path(f"{_stem(info.variant)}-{label}.onnx"),
        imgsz=(height, width),
        batch=batch,
        opset=opset,
        folded=not no_fold,
        weights_sha256=file_sha256(path),
    )
    print(f"wrote {report.path} ({report.path.stat().st_size / 1e6:.1f} MB)")
    print(f"largest difference from Torch in probability: {report.max_error:.1e}")
    print(f"nodes: {', '.join(f'{n} {op}' for op, n in sorted(report.nodes.items()))}")


def _stem(variant: str) -> str:
    return "unet" if variant == "unet" else f"rwkv-unet-{variant}"
