"""A network with its pre- and postprocessing: uint8 pictures in, probabilities out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rwkv_edge.config import NORMALISATION


class Segmenter(nn.Module):
    """What `export` writes and every runtime runs: normalise, segment, sigmoid or softmax.

    The scale of each channel is one multiplication and one addition, so that a runtime can fold it
    into the first convolution.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        mean, std = (
            torch.tensor(x)[:, None, None] for x in (NORMALISATION.mean, NORMALISATION.std)
        )
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("offset", -mean / std, persistent=False)

    def normalise(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 BGR to (N, 3, H, W) normalised RGB of the buffers' type."""
        # cast first: TensorRT slices no uint8
        rgb = image.to(self.scale.dtype).flip(3).permute(0, 3, 1, 2)
        return rgb * self.scale + self.offset

    def forward(self, image: Tensor) -> Tensor:
        """Segment pictures.

        Args:
            image: (N, H, W, 3) uint8 BGR.

        Returns:
            (N, classes, H, W) probabilities: sigmoid for one class, softmax for several.
        """
        return to_probability(self.network(self.normalise(image)))


def to_probability(logits: Tensor) -> Tensor:
    """(N, classes, H, W) logits to probabilities: sigmoid for one class, softmax for several."""
    return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, dim=1)
