from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from rwkv_edge.training.depthwise import (
    QuickDepthwiseConv2d,
    quicken_depthwise,
    weight_gradient,
)

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""Of the largest value, beside float64."""


def gradients(conv: nn.Conv2d, x: torch.Tensor, seed: int) -> list[torch.Tensor]:
    """Of the output, the input and the kernel, in float64."""
    x = x.detach().clone().requires_grad_()
    y = conv(x)
    torch.manual_seed(seed)
    y.backward(torch.randn(y.shape, dtype=torch.float64).to(y))
    assert x.grad is not None
    assert conv.weight.grad is not None
    return [t.detach().double() for t in (y, x.grad, conv.weight.grad)]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [
        (5, 1, 2, (12, 12)),
        (9, 1, 4, (7, 10)),  # the kernel is larger than the picture
        (5, 2, 2, (12, 9)),
        (3, 2, 0, (9, 10)),
        (4, 3, 1, (11, 13)),
        ((3, 5), 1, (1, 2), (6, 8)),
        (1, 1, 0, (4, 5)),
    ],
)
def test_the_gradients_are_those_of_conv2d(
    kernel: int, stride: int, padding: int, size: tuple[int, int], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, kernel, stride, padding, groups=6, bias=False).double()
    # rounded once, so that only the arithmetic differs; not contiguous
    conv.weight.data = conv.weight.data.to(dtype).double()
    x = torch.randn(3, *size, 6, dtype=torch.float64).to(dtype).permute(0, 3, 1, 2)
    expected = gradients(conv, x.double(), seed=1)
    quick = copy.deepcopy(conv).to(dtype)
    quick.zero_grad()
    quicken_depthwise(quick)
    assert type(quick) is QuickDepthwiseConv2d
    for found, wanted in zip(gradients(quick, x, seed=1), expected, strict=True):
        torch.testing.assert_close(
            found, wanted, rtol=0, atol=TOLERANCE[dtype] * wanted.abs().max()
        )


def test_the_operator_keeps_the_rules_of_torch() -> None:
    grad, x = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 9, 10)
    torch.library.opcheck(weight_gradient, (grad, x, [5, 5], 1))


def test_every_shape_is_compiled() -> None:
    """Torch's own limit is eight; what comes after would be slower than oneDNN."""
    before = counters["stats"]["unique_graphs"]
    for side in range(20, 30):
        picture = torch.randn(1, 2, side, side)
        weight_gradient(picture, picture, [1, 1], 1)
    assert counters["stats"]["unique_graphs"] - before == 10


def test_autocast_computes_in_its_type() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
    quicken_depthwise(conv)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert x.grad is not None
    assert conv.weight.grad is not None
    assert x.grad.dtype == conv.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 8, 3, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 3, groups=4, bias=False, dilation=2),
        nn.Conv2d(4, 4, 3, groups=4, bias=False, padding="same"),
        nn.Conv2d(4, 4, 3, groups=4, bias=False, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, groups=4, bias=False, stride=(1, 2)),
        nn.Conv2d(1, 1, 3, bias=False),
    ],
)
def test_other_convolutions_stay_as_they_are(other: nn.Conv2d) -> None:
    quicken_depthwise(other)
    assert type(other) is nn.Conv2d
