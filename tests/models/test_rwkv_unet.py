from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rwkv_edge.config import VARIANTS
from rwkv_edge.errors import UsageError
from rwkv_edge.models import Segmenter, create_model, load_checkpoint

# design.md's table: parameters in use, and multiply-accumulates at 256 x 256
PARAMETERS = {"tiny": 3.146e6, "small": 9.702e6, "base": 17.126e6, "unet": 7.763e6}
MACS = {"tiny": 3.58e9, "small": 7.49e9, "base": 14.31e9}


def test_golden_output(golden: Path, fill: ModuleType) -> None:
    shapes = json.loads((golden / "rwkv_unet_t_c1_state_dict.json").read_text())
    model = create_model("tiny").eval()
    load_checkpoint(model, {n: torch.from_numpy(a) for n, a in fill.fill(shapes, 0).items()})
    expected = np.load(golden / "rwkv_unet_t_256_c1_s0.npz")["y"]
    with torch.no_grad():
        output = model(torch.from_numpy(fill.image(256, 0))).numpy()
    assert np.abs(output - expected).max() < 1e-3 * np.ptp(expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameter_count(variant: str) -> None:
    count = sum(p.numel() for p in create_model(variant).parameters())
    assert count == pytest.approx(PARAMETERS[variant], rel=2e-4)


@pytest.mark.parametrize("variant", list(MACS))
def test_multiply_accumulates(variant: str) -> None:
    with torch.device("meta"):
        model = create_model(variant).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 256, 256))
    assert counter.get_total_flops() / 2 == pytest.approx(MACS[variant], rel=3e-3)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 80), (112, 64)])
def test_any_multiple_of_16(variant: str, height: int, width: int) -> None:
    model = create_model(variant, num_classes=3, in_channels=2).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 2, height, width)).shape == (2, 3, height, width)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_is_used(variant: str) -> None:
    torch.manual_seed(0)
    model = create_model(variant)
    model(torch.randn(2, 3, 32, 48)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_unknown_variant() -> None:
    with pytest.raises(UsageError, match="no variant 'huge'; choose one of tiny"):
        create_model("huge")


def test_segmenter_normalises_and_gives_probabilities() -> None:
    class Echo(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = x
            return x

    echo = Echo()
    image = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    image[..., 0] = 255  # OpenCV's first plane is blue
    probability = Segmenter(echo)(image)
    assert echo.seen[0, :, 0, 0].tolist() == pytest.approx(
        [-0.485 / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225], abs=1e-5
    )
    torch.testing.assert_close(probability.sum(1), torch.ones(1, 2, 2))
