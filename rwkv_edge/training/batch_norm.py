"""BatchNorm over the batch of all processes, so that many train as one does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn


def share_batch_norms(model: nn.Module, device: torch.device) -> None:
    """Make every BatchNorm2d see the batches of all processes; its tensors stay where they are.

    Torch's own SyncBatchNorm is the fused one, but knows GPUs only.
    """
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose mean and variance are those of all processes; their shares are equal."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, channels, H, W)."""
        if not self.training:
            return super().forward(x)
        mean, variance = self._moments(x)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Each channel's mean and variance; the running ones follow."""
        variance, mean = torch.var_mean(
            x.to(torch.promote_types(x.dtype, torch.float32)), (0, 2, 3), correction=0
        )
        rank, count = distributed.get_rank(), distributed.get_world_size()
        own = torch.stack([mean, variance])[None]
        empty = own.new_zeros(1, 2, len(mean))
        means, variances = _Sum.apply(
            torch.cat([own if process == rank else empty for process in range(count)])
        ).unbind(1)
        mean = means.mean(0)
        # not the mean square less the squared mean, which cancel
        variance = (variances + (means - mean).square()).mean(0)
        with torch.no_grad():
            pixels = count * x.numel() // len(mean)
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (pixels / (pixels - 1)), self.momentum)
        return mean, variance


class _Sum(torch.autograd.Function):
    """The sum over all processes, of values and of gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        distributed.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        distributed.all_reduce(gradient)
        return gradient
