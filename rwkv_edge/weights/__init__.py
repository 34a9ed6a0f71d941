"""The weights that ship with the package or were fetched, with a model card each."""

from __future__ import annotations

from pathlib import Path

from rwkv_edge.config import DEFAULT_IMGSZ, VARIANTS
from rwkv_edge.errors import CheckpointError, UsageError
from rwkv_edge.weights.registry import FOLDER, load_registry

__all__ = ["FOLDER", "checkpoint_name", "onnx_name", "shipped_checkpoint", "shipped_onnx"]
PASS_THEM = "pass them with --weights"


def checkpoint_name(variant: str) -> str:
    """Return the file name of a variant's weights."""
    return f"rwkv-unet-{variant}.safetensors"


def onnx_name(variant: str) -> str:
    """Return the file name of a variant's ONNX file, at the default image size."""
    return f"rwkv-unet-{variant}-{DEFAULT_IMGSZ}.onnx"


def shipped_checkpoint(variant: str, then: str = PASS_THEM) -> Path:
    """Return the path of a shipped or fetched checkpoint, float16 safetensors.

    Args:
        variant: whose.
        then: what to do with weights of one's own, for the message.

    Raises:
        CheckpointError: there is none for this variant.
        UsageError: there is no such variant.
    """
    return _find(variant, checkpoint_name(variant), then)


def shipped_onnx(variant: str, then: str = PASS_THEM) -> Path:
    """Return the path of the shipped or fetched ONNX file, float32 at the default image size.

    Args, Raises: as `shipped_checkpoint`.
    """
    return _find(variant, onnx_name(variant), then)


def _find(variant: str, name: str, then: str) -> Path:
    if variant not in VARIANTS:
        raise UsageError(f"no variant '{variant}'; choose one of {', '.join(VARIANTS)}")
    shipped = FOLDER / name
    if shipped.is_file():
        return shipped
    entry = next((entry for entry in load_registry() if entry.name == name), None)
    if entry is not None:
        if entry.cached.is_file():
            return entry.cached
        if entry.url:
            raise CheckpointError(
                f"the weights of '{variant}' are not on this machine; "
                f"rwkv-edge weights fetch {variant} downloads them"
            )
    raise CheckpointError(
        f"no weights ship for '{variant}'; train them with rwkv-edge train --variant {variant} "
        f"and {then}"
    )
