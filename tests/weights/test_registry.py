"""What ships is what the registry says, and what is fetched is found."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from rwkv_edge.errors import CheckpointError
from rwkv_edge.weights import FOLDER, registry, shipped_checkpoint, shipped_onnx
from rwkv_edge.weights.registry import Entry, load_registry, save_registry

CONTENT = b"weights of a test"
ENTRY = Entry(
    "rwkv-unet-unet.safetensors",
    "unet",
    len(CONTENT),
    hashlib.sha256(CONTENT).hexdigest(),
    "nothing",
    None,
    None,
    None,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_ships_is_registered_and_intact() -> None:
    entries = {entry.name: entry for entry in load_registry()}
    files = [p for p in FOLDER.iterdir() if p.suffix in (".safetensors", ".onnx")]
    assert files
    for path in files:
        assert entries[path.name].is_intact(path), f"{path.name}: run tools/ship_weights.py"
        assert entries[path.name].url is None


def test_fetched_weights_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "REGISTRY", tmp_path / "registry.json")
    save_registry([ENTRY])
    assert load_registry() == [ENTRY]
    with pytest.raises(CheckpointError, match=r"no weights ship for 'unet'; .* and do this"):
        shipped_checkpoint("unet", "do this")

    save_registry([replace(ENTRY, url="https://example.invalid/w")])
    with pytest.raises(CheckpointError, match="rwkv-edge weights fetch unet downloads them"):
        shipped_checkpoint("unet")
    ENTRY.cached.parent.mkdir(parents=True)
    ENTRY.cached.write_bytes(CONTENT)
    assert shipped_checkpoint("unet") == ENTRY.cached
    with pytest.raises(CheckpointError, match="no weights ship"):
        shipped_onnx("unet")

    # a new release has another hash: the old file is not taken for it
    save_registry([replace(ENTRY, sha256="0" * 64)])
    with pytest.raises(CheckpointError, match="no weights ship"):
        shipped_checkpoint("unet")


def test_a_damaged_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "REGISTRY", tmp_path / "registry.json")
    for text in ("", "[{}]", "{"):
        registry.REGISTRY.write_text(text)
        with pytest.raises(CheckpointError, match="no registry of weights"):
            load_registry()
