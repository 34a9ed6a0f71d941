from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

from rwkv_edge.models import CheckpointInfo, create_model, load_model, save_checkpoint

SCRIPT = Path(__file__).parents[2] / "tools" / "average_weights.py"


def run(monkeypatch: pytest.MonkeyPatch, *words: Path | str) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, words)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def save(path: Path, variant: str, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    state = create_model(variant).state_dict()
    state = {n: torch.randn_like(t) if t.is_floating_point() else t for n, t in state.items()}
    save_checkpoint(path, state, CheckpointInfo(variant, training=f"seed {seed}"))
    return state


def test_the_mean_of_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(3)]
    states = [save(path, "unet", seed) for seed, path in enumerate(paths)]
    run(monkeypatch, *paths, "--output", tmp_path / "mean.safetensors")
    network, info = load_model(tmp_path / "mean.safetensors")
    assert info == CheckpointInfo("unet", training="seed 0")
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, sum(state[name] for state in states) / 3)


def test_different_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save(a, "unet", 0)
    save(b, "tiny", 0)
    with pytest.raises(SystemExit, match=r"error: .*b.safetensors: is another network than .*a"):
        run(monkeypatch, a, b, "--output", tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()
