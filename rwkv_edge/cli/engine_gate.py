"""The gate on the engine itself, where the GPU that runs it is here, and the images it sees."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rwkv_edge.data.reading import IMAGE_SUFFIXES, read_image
from rwkv_edge.data.synth import render_image
from rwkv_edge.errors import DataError, ExportError
from rwkv_edge.export.gate import GateResult, compare, predict
from rwkv_edge.preprocess import UInt8Array, to_input
from rwkv_edge.runtime.manifest import ALLOWED_DROP, Manifest, write_manifest
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.runtime.plugin import Plugin
from rwkv_edge.runtime.tensorrt import TensorRTRunner

_RENDERED_FRAMES, _MOST_IMAGES = 8, 128


def calibration_images(folder: Path | None, size: tuple[int, int]) -> list[UInt8Array]:
    """Return images as the network sees them, at most 128, evenly spaced over a folder's names.

    Raises:
        DataError: no images there, or one that cannot be read.
    """
    if folder is None:
        print(
            f"no --calib: the gate compares on {_RENDERED_FRAMES} rendered frames", file=sys.stderr
        )
        return [render_image(seed, size).image for seed in range(_RENDERED_FRAMES)]
    inside = folder / "images" if (folder / "images").is_dir() else folder
    if not inside.is_dir():
        raise DataError(f"--calib {folder}: no such folder")
    visible = (p for p in inside.iterdir() if not p.name.startswith("."))  # macOS' ._name.jpg
    paths = sorted(p for p in visible if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise DataError(f"--calib {folder}: no images in it")
    count = min(len(paths), _MOST_IMAGES)
    chosen = [paths[index * len(paths) // count] for index in range(count)]
    return [to_input(read_image(path), size)[0][0] for path in chosen]


def gate_engine(
    plan: bytes,
    manifest: Manifest,
    plugin: Plugin | None,
    images: Sequence[UInt8Array],
    max_dice_drop: float,
) -> dict[str, Any]:
    """Run an engine and compare it with float32 in ONNX Runtime, before anyone gets it.

    Args:
        plan: the engine.
        manifest: what will stand beside it.
        plugin: that it was built with.
        images: (H, W, 3) uint8 BGR each, of the model's input size.
        max_dice_drop: of the gate, 0..1.

    Returns:
        The manifest's `gate`.

    Raises:
        ExportError: the gate refuses.
        BackendError: the engine does not run.
    """
    with tempfile.TemporaryDirectory(prefix="rwkv-edge-") as folder:
        engine = Path(folder) / "model.engine"
        engine.write_bytes(plan)
        write_manifest(engine, manifest)
        with TensorRTRunner(engine, [plugin.library] if plugin else []) as runner:
            reference = OnnxRuntimeRunner(Path(manifest.onnx))
            result = compare(predict(reference, images), predict(runner, images))
            where = runner.backend
    if not result.passes(max_dice_drop):
        reason = result.refusal(f"the {manifest.precision} engine", max_dice_drop)
        advice = "" if not result.reference_pixels else "; nothing was written"
        if manifest.plugin_sha256 is not None and advice:
            advice += "; try --no-plugin, to see whether the plugin is the cause"
        raise ExportError(reason + advice)
    print(f"gate: passed by the engine, {where}; {result}, allowed drop {max_dice_drop:g}")
    return describe_gate(f"the engine, {where}", result, max_dice_drop)


def describe_gate(ran: str, result: GateResult, max_dice_drop: float) -> dict[str, Any]:
    """Return the manifest's `gate`: what ran, what was found, and what was allowed."""
    return {"ran": ran, **asdict(result), ALLOWED_DROP: max_dice_drop}
