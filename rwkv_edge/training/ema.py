"""The exponential moving average of the weights: what is validated, saved and shipped."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """Keep an averaged copy of a network; buffers are averaged too.

    Args:
        model: on its device; its tensors are updated in place from now on, never replaced.
        decay: what an update keeps of the average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        theirs, ours = model.state_dict(), self.model.state_dict()
        floats = [name for name, tensor in ours.items() if tensor.is_floating_point()]
        self._theirs, self._ours = ([s[name] for name in floats] for s in (theirs, ours))
        self._counters = [(ours[name], theirs[name]) for name in ours.keys() - set(floats)]
        self._rate = torch.zeros((), device=self._ours[0].device)

    def next_rate(self) -> None:
        """Set how far the next update goes: early ones further, so that the start is forgotten."""
        self.updates += 1
        self._rate.fill_(1 - min(self.decay, (1 + self.updates) / (10 + self.updates)))

    @torch.no_grad()
    def update(self) -> None:
        """Move a step towards the network, all tensors at once; nothing depends on the host."""
        steps: list[Tensor] = list(torch._foreach_sub(self._theirs, self._ours))
        torch._foreach_mul_(steps, self._rate)
        torch._foreach_add_(self._ours, steps)
        for ours, theirs in self._counters:
            ours.copy_(theirs)
