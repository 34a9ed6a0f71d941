from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rwkv_edge.ops import bi_wkv, bi_wkv_ref

CASES = ("basic", "one_token", "two_tokens", "odd", "strong_decay", "growth", "large_keys")
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def make_inputs(
    tokens: int,
    channels: int,
    *,
    batch: int = 2,
    reach: float = 3.0,
    keys: float = 3.0,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(tokens * 1009 + channels)
    w = torch.linspace(-1, 1, channels) * reach / tokens
    u = torch.randn(channels, generator=generator)
    k = (torch.rand(batch, tokens, channels, generator=generator) * 2 - 1) * keys
    v = torch.randn(batch, tokens, channels, generator=generator)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return [w.to(wide), u.to(wide), k.to(dtype), v.to(dtype)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", [bi_wkv, bi_wkv_ref])
def test_golden(golden: Path, case: str, form) -> None:
    data = np.load(golden / "bi_wkv.npz")
    w, u, k, v = (torch.from_numpy(data[f"{case}.{name}"]) for name in "wukv")
    assert np.abs(form(w, u, k, v).numpy() - data[f"{case}.y"]).max() < 1e-5


def test_reference_is_the_formula() -> None:
    """The sums of the formula, written out, on a case small enough for it."""
    w, u, k, v = (x.double() for x in make_inputs(5, 2, batch=1))
    expected = torch.empty_like(k)
    for t in range(5):
        for c in range(2):
            num = den = torch.zeros((), dtype=torch.float64)
            for i in range(5):
                log = u[c] + k[0, t, c] if i == t else -(abs(t - i) - 1) * w[c] + k[0, i, c]
                num, den = num + log.exp() * v[0, i, c], den + log.exp()
            expected[0, t, c] = num / den
    torch.testing.assert_close(bi_wkv_ref(w, u, k, v), expected)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize(("tokens", "channels"), [(1, 1), (2, 3), (97, 7), (256, 33), (1025, 5)])
def test_forward_across_types_and_sizes(dtype: torch.dtype, tokens: int, channels: int) -> None:
    inputs = make_inputs(tokens, channels, batch=3, dtype=dtype)
    y = bi_wkv(*inputs)
    assert y.dtype == dtype
    assert y.shape == inputs[2].shape
    assert (y.double() - bi_wkv_ref(*inputs)).abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize("reach", [-300.0, -50.0, 39.0, 41.0, 300.0, 5000.0])
@pytest.mark.parametrize("tokens", [2, 64, 301])
def test_extreme_decays_and_keys(reach: float, tokens: int) -> None:
    """Keys within +-100; the three ways inside the op (float32, float64, scans) are all met."""
    inputs = make_inputs(tokens, 6, reach=reach, keys=100.0)
    assert (bi_wkv(*inputs) - bi_wkv_ref(*inputs)).abs().max() < 1e-5


def test_non_contiguous_inputs() -> None:
    w, u, k, v = make_inputs(30, 8)
    k_strided = torch.stack((k, k), dim=-1)[..., 0]
    v_strided = v.transpose(1, 2).contiguous().transpose(1, 2)
    assert not k_strided.is_contiguous()
    torch.testing.assert_close(bi_wkv(w, u, k_strided, v_strided), bi_wkv(w, u, k, v))


@pytest.mark.parametrize(
    ("tokens", "reach"), [(1, 1.0), (2, -2.0), (9, 30.0), (12, 400.0), (7, -900.0)]
)
def test_gradcheck(tokens: int, reach: float) -> None:
    inputs = make_inputs(tokens, 3, reach=reach, dtype=torch.float64)
    assert torch.autograd.gradcheck(bi_wkv, [x.requires_grad_() for x in inputs])


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("reach", [5.0, 300.0, -5000.0])
def test_gradients_match_the_reference(dtype: torch.dtype, reach: float) -> None:
    inputs = [x.requires_grad_() for x in make_inputs(65, 9, reach=reach, dtype=dtype)]
    grad = torch.randn(inputs[2].shape, generator=torch.Generator().manual_seed(0))
    ours = torch.autograd.grad(bi_wkv(*inputs), inputs, grad.to(dtype))
    theirs = torch.autograd.grad(bi_wkv_ref(*inputs), inputs, grad.to(dtype).double())
    for name, a, b in zip("wukv", ours, theirs, strict=True):
        scale = b.abs().max().clamp(min=1e-6)
        assert ((a.double() - b.double()).abs().max() / scale) < TOLERANCE[dtype], name


def test_is_a_well_behaved_torch_op() -> None:
    w, u, k, v = make_inputs(9, 4)
    torch.library.opcheck(torch.ops.rwkv_edge.bi_wkv.default, (w, u, k.requires_grad_(), v))


def test_nan_reaches_the_output() -> None:
    w, u, k, v = make_inputs(9, 4)
    k[0, 3, 1] = torch.nan
    y = bi_wkv(w, u, k, v)
    assert y[0, :, 1].isnan().any()
    assert y[1].isfinite().all()


def test_memory_is_linear_in_tokens() -> None:
    """8,192 tokens of 64 channels: a matrix of all pairs would need 17 GB."""
    inputs = make_inputs(8192, 64, batch=1)
    assert bi_wkv(*inputs).isfinite().all()


def test_shapes_are_checked() -> None:
    w, u, k, v = make_inputs(4, 3)
    with pytest.raises(ValueError, match=r"\(B, T, C\)"):
        bi_wkv(w[:2], u, k, v)
