"""Torch as a runtime: slower than the others, but what they are compared with."""

from __future__ import annotations

from pathlib import Path

import torch

from rwkv_edge.models import Segmenter, load_model
from rwkv_edge.preprocess import FloatArray, UInt8Array
from rwkv_edge.runtime.base import ModelInfo, Runner


class TorchRunner(Runner):
    """A checkpoint in Torch, float32.

    Args:
        path: weights.
        variant: for files that do not say it.
        input_size: height and width; default: what the checkpoint was trained at.
        device: 'cpu' or 'cuda'.

    Raises:
        CheckpointError: as `load_model`.
    """

    def __init__(
        self,
        path: Path,
        variant: str | None = None,
        input_size: tuple[int, int] | None = None,
        device: str = "cpu",
    ) -> None:
        network, info = load_model(path, variant)
        self._device = torch.device(device)
        self._segmenter = Segmenter(network).eval().to(self._device)
        self.info = ModelInfo(info.variant, info.names, input_size or info.imgsz, str(path))
        self.backend = f"torch {torch.__version__} on {self._device}"

    @torch.inference_mode()
    def __call__(self, image: UInt8Array) -> FloatArray:
        """See `Runner`."""
        probability: FloatArray = (
            self._segmenter(torch.from_numpy(image).to(self._device)).cpu().numpy()
        )
        return probability
