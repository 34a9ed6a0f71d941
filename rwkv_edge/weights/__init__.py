"""The weights that ship with the package: files beside this one, with a model card each."""

from __future__ import annotations

from pathlib import Path

from rwkv_edge.config import DEFAULT_IMGSZ
from rwkv_edge.errors import CheckpointError

FOLDER = Path(__file__).parent


def shipped_checkpoint(variant: str) -> Path:
    """Return the path of a shipped checkpoint, float16 safetensors.

    Raises:
        CheckpointError: none ships for this variant.
    """
    return _shipped(variant, f"rwkv-unet-{variant}.safetensors")


def shipped_onnx(variant: str) -> Path:
    """Return the path of the shipped ONNX file of a variant, float32 at the default image size.

    Raises:
        CheckpointError: none ships for this variant.
    """
    return _shipped(variant, f"rwkv-unet-{variant}-{DEFAULT_IMGSZ}.onnx")


def _shipped(variant: str, name: str) -> Path:
    path = FOLDER / name
    if not path.is_file():
        raise CheckpointError(
            f"no weights ship for '{variant}'; train them with rwkv-edge train --variant {variant} "
            "and pass them with --weights"
        )
    return path
