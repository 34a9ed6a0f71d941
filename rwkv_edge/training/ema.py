"""The exponential moving average of the weights: what is validated, saved and shipped."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """Keep an averaged copy of a network; buffers are averaged too."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move a step towards `model`; early steps go further, so that the start is forgotten."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        theirs = model.state_dict()
        for name, ours in self.model.state_dict().items():
            if ours.is_floating_point():
                ours.lerp_(theirs[name].to(ours.dtype), 1 - decay)
            else:
                ours.copy_(theirs[name])
