from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rwkv_edge.config import SIZES, VARIANTS, RWKVUNetSize
from rwkv_edge.models import Segmenter, create_model, fold, load_checkpoint, load_model
from rwkv_edge.models.blocks import q_shift
from rwkv_edge.models.fold import (
    commute_resizes,
    fold_batch_norms,
    fold_normalisation,
    fold_pre_norms,
    fold_shifts,
    merge_stem,
)
from rwkv_edge.models.folded import ShiftMix, enlarge, shrink
from rwkv_edge.weights import shipped_checkpoint

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Of the range of the logits."""


def random_segmenter(variant: str, classes: int = 1) -> Segmenter:
    """Weights that are not symmetric in anything: norms that scale, shift and remember."""
    torch.manual_seed(0)
    network = create_model(variant, num_classes=classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return Segmenter(network).eval()


@torch.no_grad()
def logits(segmenter: Segmenter, size: tuple[int, int] = (32, 48)) -> Tensor:
    image = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    return segmenter.network(segmenter.normalise(torch.from_numpy(image)))


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    error = (ours - theirs).abs().max() / (theirs.max() - theirs.min())
    assert error < TOLERANCE[ours.dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_output_stays(variant: str, dtype: torch.dtype) -> None:
    segmenter = random_segmenter(variant, classes=3).to(dtype)
    before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
    folded = fold(segmenter)
    for size in ((16, 16), (32, 48)):
        assert_same(logits(folded, size), logits(segmenter, size))
    for name, tensor in segmenter.state_dict().items():  # the original is left alone
        assert torch.equal(tensor, before[name])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_trained_weights(dtype: torch.dtype) -> None:
    segmenter = Segmenter(load_model(shipped_checkpoint("tiny"))[0]).eval().to(dtype)
    for size in ((64, 64), (48, 80)):
        assert_same(logits(fold(segmenter), size), logits(segmenter, size))


def test_golden_output(golden: Path, fill: ModuleType) -> None:
    shapes = json.loads((golden / "rwkv_unet_t_c1_state_dict.json").read_text())
    network = create_model("tiny")
    load_checkpoint(network, {n: torch.from_numpy(a) for n, a in fill.fill(shapes, 0).items()})
    segmenter = Segmenter(network).eval()
    expected = np.load(golden / "rwkv_unet_t_256_c1_s0.npz")["y"]
    normalised = torch.from_numpy(fill.image(256, 0))
    pixels = ((normalised - segmenter.offset) / segmenter.scale).flip(1)  # BGR in 0..255
    with torch.no_grad():
        output = fold(segmenter).network(pixels).numpy()
    assert np.abs(output - expected).max() < 1e-3 * np.ptp(expected)


def _in_network(rewrite: Callable[..., object]) -> Callable[[Segmenter], Segmenter]:
    def apply(segmenter: Segmenter) -> Segmenter:
        result = rewrite(segmenter.network)
        if isinstance(result, nn.Module):
            segmenter.network = result
        return segmenter

    return apply


REWRITES: dict[str, Callable[[Segmenter], Segmenter]] = {
    "batch norms": _in_network(fold_batch_norms),
    "pre-norms": _in_network(fold_pre_norms),
    "stem": _in_network(merge_stem),
    "shifts": _in_network(fold_shifts),
    "normalisation": fold_normalisation,
    "resizes": _in_network(commute_resizes),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", REWRITES)
@torch.no_grad()
def test_each_rewrite_by_itself(name: str, dtype: torch.dtype) -> None:
    """Each on top of those before it, and it must have changed something."""
    segmenter = random_segmenter("tiny").to(dtype)
    for earlier, rewrite in REWRITES.items():
        if earlier == name:
            break
        segmenter = rewrite(segmenter)
    expected, modules = logits(segmenter), str(segmenter)
    rewritten = REWRITES[name](copy.deepcopy(segmenter))
    assert str(rewritten) != modules or name == "normalisation"
    assert_same(logits(rewritten), expected)


def test_fewer_multiply_accumulates() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for variant, size in SIZES.items():
        counts = []
        with torch.device("meta"):
            plain = Segmenter(create_model(variant)).eval()
            for segmenter in (plain, fold(plain)):
                with FlopCounterMode(display=False) as counter:
                    segmenter.network(torch.empty(1, 3, 256, 256))
                counts.append(counter.get_total_flops())
        bound = 0.97 if isinstance(size, RWKVUNetSize) else 1
        assert counts[1] <= bound * counts[0]


@pytest.mark.parametrize("channels", [3, 4, 7, 96])
def test_shift_mix_is_q_shift_and_mix(channels: int) -> None:
    torch.manual_seed(0)
    x, ratios = torch.randn(2, channels, 5, 6), torch.rand(3, 1, 1, channels)
    shifted = q_shift(x)
    with torch.no_grad():
        for mixed, ratio in zip(ShiftMix(*ratios)(x), ratios, strict=True):
            expected = shifted + (x - shifted) * ratio.reshape(1, channels, 1, 1)
            torch.testing.assert_close(mixed, expected.permute(0, 2, 3, 1))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_resizing_is_bilinear(factor: int) -> None:
    x = torch.randn(2, 3, 16, 24)
    for resized in (enlarge(x, factor), shrink(x, factor)):
        expected = nn.functional.interpolate(
            x, size=tuple(resized.shape[2:]), mode="bilinear", align_corners=False
        )
        torch.testing.assert_close(resized, expected)
