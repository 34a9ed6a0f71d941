"""Parity: does the exported file say what Torch says?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rwkv_edge.data.synth import render_image
from rwkv_edge.errors import MissingDependencyError
from rwkv_edge.models import Segmenter
from rwkv_edge.preprocess import UInt8Array

TOLERANCE = 1e-4
"""Largest accepted difference in probability."""


def largest_error(path: Path, segmenter: Segmenter) -> float:
    """Compare an ONNX file in ONNX Runtime with Torch.

    Args:
        path: file with the input `image`.
        segmenter: the same network in Torch, float32.

    Returns:
        The largest absolute difference in probability over a procedural frame, noise and black;
        NaN if one of the two is not finite.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError("onnxruntime", "export", "the parity check") from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    worst = 0.0
    for image in check_images((shape[1], shape[2])):
        batch = np.repeat(image[None], shape[0], axis=0)
        ours = session.run(None, {"image": batch})[0]
        with torch.no_grad():
            theirs = segmenter(torch.from_numpy(batch)).numpy()
        worst = float(np.maximum(worst, np.abs(ours - theirs).max()))  # keeps a NaN
    return worst


def check_images(size: tuple[int, int]) -> list[UInt8Array]:
    """Return the pictures of the check, (H, W, 3) uint8 BGR: a procedural frame, noise, black."""
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    frame = render_image(0, size) if min(size) >= 32 else None
    rest = [noise, np.zeros((*size, 3), np.uint8)]
    return rest if frame is None else [frame.image, *rest]
