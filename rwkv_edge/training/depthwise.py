"""Depthwise convolutions that train fast on a CPU.

The gradient of a depthwise kernel is as much arithmetic as the convolution, yet oneDNN takes many
times as long for it, and for the gradient of the input where the stride is 2. Here each row of the
kernel is a few products and sums over the picture, which torch.compile fuses into one pass, and the
input's gradient is a convolution, too: half the time of a step (benchmarks/depthwise_cpu.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHAPES = 256
"""Compiled forms of `_row_gradient`: one for each shape, and a run with growing pictures has many.
Torch would give up after eight, and go on without compiling."""


def quicken_depthwise(model: nn.Module) -> None:
    """Give every depthwise Conv2d without bias or dilation the fast gradients, in place.

    Its tensors stay where they are, and of (B, C, H, W) it makes what it did.
    """
    for module in model.modules():
        if (
            type(module) is nn.Conv2d
            and module.groups == module.in_channels == module.out_channels > 1
            and module.dilation == (1, 1)
            and module.stride[0] == module.stride[1]
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
            and module.bias is None
        ):
            module.__class__ = QuickDepthwiseConv2d


class QuickDepthwiseConv2d(nn.Conv2d):
    """A depthwise Conv2d; only the way to its gradients is another."""

    padding: tuple[int, int]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to what Conv2d makes of it."""
        weight, (vertical, horizontal) = self.weight, self.padding
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
        x = F.pad(x, (horizontal, horizontal, vertical, vertical))
        y: Tensor = _Convolution.apply(x, weight, self.stride[0])
        return y


class _Convolution(torch.autograd.Function):
    """Without padding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        (spread,), stride = grads, ctx.stride
        rows, columns = weight.shape[2:]
        if stride > 1:
            spread = F.pad(x.new_zeros(x.shape), (0, 1 - columns, 0, 1 - rows))
            spread[:, :, ::stride, ::stride] = grads[0]
        grad_x = F.conv2d(
            spread, weight.flip(2, 3), None, 1, (rows - 1, columns - 1), groups=len(weight)
        )
        return grad_x, weight_gradient(grads[0], x, [rows, columns], stride), None


@torch.library.custom_op("rwkv_edge::depthwise_weight_gradient", mutates_args=())
def weight_gradient(grad: Tensor, x: Tensor, kernel_size: list[int], stride: int) -> Tensor:
    """The gradient of the kernel of a depthwise convolution without padding.

    Args:
        grad: (B, C, h, w) of its output.
        x: (B, C, H, W) its input, of the same type.
        kernel_size: rows and columns.
        stride: of both directions.

    Returns:
        (C, 1, rows, columns) of that type, summed in float32 at least.
    """
    # channels last: they are what a vector register holds
    grad, x = (t.permute(0, 2, 3, 1).contiguous() for t in (grad, x))
    span = stride * (grad.shape[1] - 1) + 1
    rows, columns = kernel_size
    with torch._dynamo.config.patch(recompile_limit=SHAPES):
        sums = [
            _row_gradient(grad, x[:, row : row + span : stride], columns, stride)
            for row in range(rows)
        ]
    return torch.stack(sums).to(grad.dtype).permute(2, 0, 1)[:, None].contiguous()


@weight_gradient.register_fake
def _(grad: Tensor, x: Tensor, kernel_size: list[int], stride: int) -> Tensor:
    return grad.new_empty(grad.shape[1], 1, *kernel_size)


@torch.compile(dynamic=False)
def _row_gradient(grad: Tensor, rows: Tensor, columns: int, stride: int) -> Tensor:
    """(B, h, w, C) and (B, h, W, C) to (columns, C)."""
    dtype = torch.promote_types(grad.dtype, torch.float32)
    span = stride * (grad.shape[2] - 1) + 1
    return torch.stack(
        [
            (grad.to(dtype) * rows[:, :, column : column + span : stride].to(dtype)).sum((0, 1, 2))
            for column in range(columns)
        ]
    )
