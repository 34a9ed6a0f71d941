from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from rwkv_edge.models import CheckpointInfo, create_model, save_checkpoint
from rwkv_edge.weights import registry
from rwkv_edge.weights.registry import load_registry, save_registry

SCRIPT = Path(__file__).parents[2] / "tools" / "ship_weights.py"


def test_nothing_is_written_before_the_data_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["w.safetensors", "--training", "none", "--data", "nowhere", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
    with pytest.raises(SystemExit, match="error: nowhere: no such data set"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert not list(tmp_path.iterdir())


def test_a_release_is_entered_as_measured(
    disc_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_registry()
    monkeypatch.setattr(registry, "REGISTRY", tmp_path / "registry.json")
    save_registry(before)
    weights, release = tmp_path / "best.safetensors", tmp_path / "release"
    save_checkpoint(weights, create_model("unet").state_dict(), CheckpointInfo("unet"))
    words = [str(weights), "--training", "not at all", "--data", str(disc_data)]
    words += ["--output", str(release), "--url", "https://example.invalid/v1/"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
    runpy.run_path(str(SCRIPT), run_name="__main__")

    entries = load_registry()
    assert entries[: len(before)] == before  # Tiny comes first, and stays
    ours = entries[len(before) :]
    assert [entry.name for entry in ours] == [
        "rwkv-unet-unet-256.onnx",
        "rwkv-unet-unet.safetensors",
    ]
    for entry in ours:
        assert entry.is_intact(release / entry.name)
        assert entry.url == f"https://example.invalid/v1/{entry.name}"
        assert (entry.variant, entry.training) == ("unet", "not at all")
        assert entry.measured_on == f"{disc_data.name}, 4 validation images"
        assert entry.dice is not None
        assert 0 <= entry.dice < 1
