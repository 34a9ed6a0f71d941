from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from rwkv_edge.cli import main
from rwkv_edge.weights import registry, shipped_checkpoint, shipped_onnx
from rwkv_edge.weights.registry import Entry
from tests.cli.test_cli import fails
from tests.data.pictures import save_pair
from tests.loopback import Loopback


def entry_of(path: Path, variant: str, url: str | None) -> Entry:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return Entry(path.name, variant, len(content), sha256, "by a test", 0.5, "nothing", url)


@pytest.fixture
def release(
    tmp_path: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> tuple[Loopback, list[Entry]]:
    """A server that offers the shipped Tiny as a release of 'unet': real files, a made-up name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    entries = []
    for found, name in (
        (shipped_checkpoint("tiny"), "rwkv-unet-unet.safetensors"),
        (shipped_onnx("tiny"), "rwkv-unet-unet-256.onnx"),
    ):
        path = tmp_path / "stick" / name
        path.parent.mkdir(exist_ok=True)
        shutil.copy(found, path)
        loopback.files[f"/{name}"] = path.read_bytes()
        entries.append(entry_of(path, "unet", f"{loopback.address}/{name}"))
    write(entries, monkeypatch, tmp_path)
    return loopback, entries


def write(entries: list[Entry], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    path = folder / "registry.json"
    path.write_text(json.dumps([asdict(entry) for entry in entries]))
    monkeypatch.setattr(registry, "REGISTRY", path)


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    return int(caught.value.code or 0)


def cached() -> list[str]:
    return sorted(path.name for path in Path("cache").rglob("*") if path.is_file())


def test_list_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("weights") == 0
    shown = capsys.readouterr().out
    tiny = next(line for line in shown.splitlines() if "tiny.safetensors" in line)
    assert tiny.endswith("ships, SHA-256 verified")
    assert "unet   not released; train it with: rwkv-edge train --variant unet" in shown
    assert "trained on: 800 Kvasir-SEG training images" in shown


def test_fetch_then_use(
    release: tuple[Loopback, list[Entry]], capsys: pytest.CaptureFixture[str]
) -> None:
    loopback, entries = release
    assert run("weights") == 0
    assert "released; rwkv-edge weights fetch unet" in capsys.readouterr().out
    assert run("weights", "fetch", "unet") == 0
    assert capsys.readouterr().out.count("SHA-256 verified") == 2
    assert cached() == sorted(entry.name for entry in entries)
    assert run("weights") == 0
    assert "fetched, SHA-256 verified" in capsys.readouterr().out

    asked = len(loopback.asked)
    assert run("weights", "fetch", "unet") == 0  # nothing to do
    assert len(loopback.asked) == asked
    entries[0].cached.write_bytes(b"damaged")
    assert run("weights") == 0
    assert "SHA-256 WRONG" in capsys.readouterr().out
    assert run("weights", "fetch", entries[0].name) == 0  # mends it
    assert entries[0].is_intact(entries[0].cached)

    rng = np.random.default_rng(0)
    save_pair(Path("data"), "a", rng.integers(0, 255, (48, 64, 3)).astype(np.uint8))
    words = ["--variant", "unet", "--backend", "onnxruntime", "--json", "a.json"]
    assert run("eval", "--data", "data", *words) == 0
    assert json.loads(Path("a.json").read_text())["weights"] == str(entries[1].cached)


def test_fetch_from_elsewhere(
    release: tuple[Loopback, list[Entry]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loopback, entries = release
    assert run("weights", "fetch", entries[1].name, "--from", "stick") == 0
    assert not loopback.asked
    assert run("weights", "fetch", "unet", "--from", f"{loopback.address}/") == 0
    assert loopback.asked == [f"/{entries[0].name}"]
    assert len(cached()) == 2


def test_failures_leave_nothing(
    release: tuple[Loopback, list[Entry]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loopback, entries = release
    name = entries[0].name
    good = loopback.files[f"/{name}"]
    loopback.files[f"/{name}"] = good[::-1]
    assert fails(capsys, "weights", "fetch", name)[0] == 1
    loopback.files[f"/{name}"] = good
    loopback.truncated.add(f"/{name}")
    code, line = fails(capsys, "weights", "fetch", name)
    assert (code, "ended after" in line) == (1, True)
    del loopback.files[f"/{name}"]
    code, line = fails(capsys, "weights", "fetch", name)
    assert (code, "the server says 404 Not Found" in line) == (1, True)
    code, line = fails(capsys, "weights", "fetch", name, "--from", "http://no.invalid")
    assert (code, "is there a network?" in line) == (1, True)
    code, line = fails(capsys, "weights", "fetch", name, "--from", "no-stick")
    assert (code, "No such file or directory" in line) == (1, True)
    assert not cached()
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/cache")
    code, line = fails(capsys, "weights", "fetch", name, "--from", "stick")
    assert (code, "cannot create /proc/cache" in line) == (1, True)


def test_what_is_not_released(
    release: tuple[Loopback, list[Entry]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    _, entries = release
    code, line = fails(capsys, "weights", "fetch", "base")
    message = "not released; train it with: rwkv-edge train --variant base --data DATA"
    assert (code, line) == (1, f"error: base: {message}")
    code, line = fails(capsys, "weights", "fetch", "huge")
    assert code == 2
    assert "'huge': choose one of tiny, small" in line
    write([Entry(**{**asdict(entries[0]), "url": None})], monkeypatch, tmp_path)
    code, line = fails(capsys, "weights", "fetch", "unet")
    assert code == 1
    assert "rwkv-unet-unet.safetensors: not released" in line
    assert run("weights", "fetch", "unet", "--from", "stick") == 0  # its hash is known


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("benchmark --variant unet", "time them with --model FILE, or add --untrained"),
        ("compare --a tiny --b unet --data data", "give the file with --b FILE"),
        ("robustness --model unet --data data", "give the file with --model FILE"),
        ("eval --variant unet --data data", "pass them with --weights"),
    ],
)
def test_the_hint_names_an_option_of_the_command(
    words: str,
    hint: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_pair(Path("data"), "a")
    code, line = fails(capsys, *words.split())
    assert code == 1
    assert line.endswith(hint) or f"{hint} for latency alone" in line
