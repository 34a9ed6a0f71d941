from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rwkv_edge.config import NORMALISATION, SIZES, RWKVUNetSize
from rwkv_edge.data.synth import render_image
from rwkv_edge.errors import CheckpointError
from rwkv_edge.models import CheckpointInfo, create_model, load_model, save_checkpoint
from rwkv_edge.models.rwkv_unet import RWKVUNet
from rwkv_edge.models.warm_start import grow, start_from
from rwkv_edge.weights import shipped_checkpoint

LITTLE = RWKVUNetSize(
    (2, 1, 2, 2), (8, 8, 16, 16), (2.0,) * 4, stem_width=8, decoder_out_width=8, drop_path=0.0
)
DOUBLE = RWKVUNetSize(
    (2, 2, 4, 3), (16, 16, 32, 32), (2.0,) * 4, stem_width=16, decoder_out_width=16, drop_path=0.0
)


def random_network(size: RWKVUNetSize, classes: int = 1) -> RWKVUNet:
    """A network in which no tensor is zero or one, statistics included."""
    torch.manual_seed(0)
    model = RWKVUNet(size, classes)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5) if "var" in name else tensor.add_(torch.rand_like(tensor) / 5)
    return model.eval()


def normalise(x: Tensor) -> Tensor:
    mean, std = (torch.tensor(v)[:, None, None] for v in (NORMALISATION.mean, NORMALISATION.std))
    return (x - mean) / std


def logits(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.double()(x.double())


def test_twice_the_channels_and_more_blocks_compute_the_same() -> None:
    smaller, larger = random_network(LITTLE), RWKVUNet(DOUBLE).eval()
    grow(smaller, larger)
    x = torch.randn(2, 3, 48, 32)
    wanted = logits(smaller, x)
    assert wanted.std() > 0.01
    torch.testing.assert_close(logits(larger, x), wanted, rtol=1e-4, atol=1e-5)


def test_copies_part_in_training() -> None:
    """Copies that get the same gradient would never become two channels."""
    larger = RWKVUNet(DOUBLE)
    grow(random_network(LITTLE), larger)
    weight = larger.encoder.stage1[1].conv.conv.weight
    copy = weight.shape[0] // 8
    larger(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert weight.grad is not None
    gradients = weight.grad.flatten(1)
    apart = (gradients[:copy] - gradients[copy : 2 * copy]).norm(dim=1)
    assert (apart > 0.05 * gradients[:copy].norm(dim=1)).all()


@pytest.mark.parametrize("variant", ["small", "base"])
def test_shipped_tiny_grows_without_forgetting(variant: str) -> None:
    tiny = load_model(shipped_checkpoint("tiny"))[0]
    model = create_model(variant).eval()
    said = start_from(model, variant, shipped_checkpoint("tiny"))
    assert f"grown to {variant}" in str(said)
    frames = [render_image(seed, (128, 128)).image for seed in range(2)]
    x = normalise(torch.from_numpy(np.stack(frames)[..., ::-1].copy()).permute(0, 3, 1, 2) / 255)
    old, new = logits(tiny, x), logits(model, x)
    assert 0 < (old > 0).double().mean() < 1
    assert ((old > 0) != (new > 0)).double().mean() < 0.01


def test_same_variant_is_loaded_whole() -> None:
    path = shipped_checkpoint("tiny")
    model = create_model("tiny")
    assert start_from(model, "tiny", path) is None
    for name, tensor in load_model(path)[0].state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


@pytest.mark.parametrize("variant", ["tiny", "unet"])
def test_head_of_other_classes_starts_anew(variant: str, tmp_path: Path) -> None:
    trained, path = create_model(variant), tmp_path / "w.safetensors"
    save_checkpoint(path, trained.state_dict(), CheckpointInfo(variant))
    model = create_model(variant, 3)
    fresh = model.final_conv.weight.detach().clone()
    said = start_from(model, variant, path)
    assert "polyp" in str(said)
    assert torch.equal(model.final_conv.weight, fresh)
    before, after = trained.state_dict(), model.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before if not n.startswith("final_conv"))


@pytest.mark.parametrize(
    ("held", "wanted"), [("small", "tiny"), ("unet", "tiny"), ("tiny", "unet")]
)
def test_what_does_not_grow_is_refused(held: str, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, create_model(held).state_dict(), CheckpointInfo(held))
    with pytest.raises(CheckpointError, match=f"holds a '{held}'"):
        start_from(create_model(wanted), wanted, path)


def test_narrower_is_refused() -> None:
    with pytest.raises(CheckpointError, match="does not shrink"):
        grow(random_network(DOUBLE), RWKVUNet(LITTLE))
    narrow = RWKVUNetSize(
        LITTLE.depths, (8, 8, 8, 16), (2.0,) * 4, stem_width=8, decoder_out_width=8
    )
    with pytest.raises(CheckpointError, match="from 16 channels to 8"):
        grow(random_network(LITTLE), RWKVUNet(narrow))


def test_sizes_grow_in_their_order() -> None:
    for small, large in (("tiny", "small"), ("small", "base"), ("tiny", "base")):
        before, after = SIZES[small], SIZES[large]
        assert isinstance(before, RWKVUNetSize)
        assert isinstance(after, RWKVUNetSize)
        grow(random_network(before), RWKVUNet(after))
