from __future__ import annotations

import pytest
import torch
from torch import nn

from rwkv_edge.errors import UsageError
from rwkv_edge.models import RWKVBlock, create_model
from rwkv_edge.ops.reference import bi_wkv_ref


def filled(channels: int) -> RWKVBlock:
    torch.manual_seed(0)
    return RWKVBlock(channels, initial_scale=1.0).double().eval()


def shifted(x: torch.Tensor) -> torch.Tensor:
    """Q-shift of (C, H, W), pixel by pixel."""
    y = torch.zeros_like(x)
    channels, height, width = x.shape
    for c in range(channels):
        side = min(c // (channels // 4), 4)  # what four quarters leave over stays
        dy, dx = ((0, -1), (0, 1), (-1, 0), (1, 0), (0, 0))[side]
        for i in range(height):
            for j in range(width):
                if 0 <= i + dy < height and 0 <= j + dx < width:
                    y[c, i, j] = x[c, i + dy, j + dx]
    return y


def test_against_the_definition() -> None:
    """In float64, from the reference of bi-WKV and loops; eleven channels leave three over."""
    block = filled(11)
    x = torch.randn(1, 11, 4, 5, dtype=torch.float64)

    def tokens(y: torch.Tensor) -> torch.Tensor:
        return y.flatten(1).T

    def normed(y: torch.Tensor) -> torch.Tensor:
        mean, variance = y.mean(0), y.var(0, unbiased=False)
        return (y - mean) / (variance + 1e-6).sqrt()

    def mix(y: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
        return tokens(y) * ratio[0] + tokens(shifted(y)) * (1 - ratio[0])

    s, c = block.spatial_mix, block.channel_mix
    y = normed(x[0])
    k, v, r = (
        mix(y, ratio) @ layer.weight.T
        for ratio, layer in (
            (s.spatial_mix_k, s.key),
            (s.spatial_mix_v, s.value),
            (s.spatial_mix_r, s.receptance),
        )
    )
    wkv = bi_wkv_ref(s.spatial_decay / 20, s.spatial_first / 20, k[None], v[None])[0]
    out = (torch.sigmoid(r) * s.key_norm(torch.as_tensor(wkv))) @ s.output.weight.T
    z = x[0] + out.T.reshape(11, 4, 5)
    y = normed(z)
    hidden = c.key_norm((mix(y, c.spatial_mix_k) @ c.key.weight.T).clamp(min=0) ** 2)
    gate = torch.sigmoid(mix(y, c.spatial_mix_r) @ c.receptance.weight.T)
    z = z + (gate * (hidden @ c.value.weight.T)).T.reshape(11, 4, 5)
    assert torch.allclose(block(x)[0], z, atol=1e-9)


def test_every_pixel_sees_every_pixel() -> None:
    block = filled(8)
    x = torch.randn(1, 8, 7, 9, dtype=torch.float64, requires_grad=True)
    block(x)[0, :, 0, 0].sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(1) > 0).all()


def test_any_size_and_gradients_reach_all() -> None:
    block = RWKVBlock(16, drop_path=0.1)
    for size in ((1, 1), (3, 8), (16, 16)):
        x = torch.randn(2, 16, *size)
        assert block(x).shape == x.shape
    block.eval()(torch.randn(2, 16, 6, 6)).square().sum().backward()
    missing = [
        name
        for name, p in block.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert not missing


def test_starts_near_the_identity() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 32, 8, 8)
    assert torch.equal(RWKVBlock(32, initial_scale=0)(x), x)
    change = (RWKVBlock(32)(x) - x).norm() / x.norm()
    assert 0 < change < 0.2


def test_in_a_unet() -> None:
    model = create_model("unet")
    model.encoder[-1] = nn.Sequential(model.encoder[-1], RWKVBlock(512))
    assert model(torch.randn(2, 3, 64, 48)).shape == (2, 1, 64, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"channels": 3}, "give 4 channels"), ({"channels": 8, "drop_path": 1.0}, "not a rate")],
)
def test_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RWKVBlock(**options)
