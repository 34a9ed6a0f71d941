from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rwkv_edge.errors import BackendError
from rwkv_edge.files import file_sha256
from rwkv_edge.runtime.machine import Gpu
from rwkv_edge.runtime.manifest import (
    Environment,
    Manifest,
    _digest,
    manifest_path,
    read_manifest,
    verify,
    write_manifest,
)

ORIN = Gpu("Orin", "8.7", 16, "12.6", "540.4")
HERE = Environment("tensorrt", "10.3.0", ORIN, "plugin")


MANIFEST = Manifest(
    engine_sha256="",
    backend="tensorrt",
    backend_version="10.3.0",
    compute_capability="8.7",
    gpu="Orin",
    cuda="12.6",
    driver="540.4",
    plugin_sha256="plugin",
    plugin_version="1",
    onnx="",
    onnx_sha256="",
    weights_sha256="weights",
    variant="tiny",
    names=("polyp",),
    precision="fp16",
    unquantised_layers=(),
    shapes={"image": ((1, 256, 256, 3), (2, 256, 256, 3), (4, 256, 256, 3))},
    layers={"PLUGIN_V3": 4},
    gate={"dice": 0.9995},
    command=("rwkv-edge", "build", "--weights", "my best.safetensors", "--fp16"),
    multiprocessors=16,
)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-fp16.engine"
    path.write_bytes(b"an engine")
    source = tmp_path / "tiny.onnx"
    source.write_bytes(b"a model")
    manifest = replace(
        MANIFEST,
        engine_sha256=file_sha256(path),
        onnx=str(source),
        onnx_sha256=file_sha256(source),
    )
    write_manifest(path, manifest)
    return path


def refuses(engine: Path, reason: str, here: Environment = HERE) -> None:
    with pytest.raises(BackendError, match=reason) as caught:
        verify(engine, here)
    message = str(caught.value)
    assert "\n" not in message
    assert "rwkv-edge build" in message


def test_a_whole_engine_is_accepted(engine: Path) -> None:
    manifest = verify(engine, HERE)
    assert manifest == read_manifest(engine)
    assert manifest.shapes["image"][2] == (4, 256, 256, 3)
    assert manifest_path(engine).name == "tiny-fp16.engine.json"
    assert "letterboxed" in manifest.preprocessing


def test_the_command_that_builds_it_again_is_named(engine: Path) -> None:
    engine.write_bytes(b"another engine")
    refuses(engine, r"build it again: rwkv-edge build --weights 'my best.safetensors' --fp16")


@pytest.mark.parametrize(
    ("here", "reason"),
    [
        (replace(HERE, backend_version="10.16.1"), "built by tensorrt 10.3.0, here is .* 10.16.1"),
        (replace(HERE, backend="tensorrt-rtx"), "built by tensorrt 10.3.0, here is tensorrt-rtx"),
        (replace(HERE, gpu=None), "needs a CUDA GPU"),
        (
            replace(HERE, gpu=Gpu("Thor", "11.0", 20, "13.0", "")),
            "built for compute capability 8.7, Thor has 11.0",
        ),
        (replace(HERE, gpu=replace(ORIN, name="Orin Nano")), "built on Orin, here is Orin Nano"),
        (
            replace(HERE, gpu=replace(ORIN, multiprocessors=8)),
            "built on Orin with 16 multiprocessors, here it has 8: another module, or another "
            r"power mode \(build in the mode that is used\); build it again: rwkv-edge build",
        ),
        (replace(HERE, plugin_sha256=None), "needs our plugin"),
        (replace(HERE, plugin_sha256="other"), "another build of our plugin"),
    ],
)
def test_foreign_engines(engine: Path, here: Environment, reason: str) -> None:
    refuses(engine, reason, here)


def test_changed_files(engine: Path) -> None:
    content = engine.read_bytes()
    engine.write_bytes(content[:-1])
    refuses(engine, "damaged or not the one that was built")
    engine.write_bytes(content)
    (engine.parent / "tiny.onnx").write_bytes(b"trained on")
    refuses(engine, r"stale, .*tiny\.onnx has changed since")
    (engine.parent / "tiny.onnx").unlink()  # an engine may travel without its source
    verify(engine, HERE)
    engine.unlink()
    refuses(engine, "no such file")


def edit(engine: Path, **changes: Any) -> None:
    path = manifest_path(engine)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_changed_manifests(engine: Path) -> None:
    path = manifest_path(engine)
    good = path.read_text()
    edit(engine, gpu="Orin Nano")
    refuses(engine, "was changed after the engine was built")
    path.write_text(good)
    edit(engine, gate={"dice": 1.0})
    refuses(engine, "was changed after")
    for damaged in ("", "[]", "{}", good[:50], "[1]"):
        path.write_text(damaged)
        refuses(engine, "not a manifest")
    path.unlink()
    refuses(engine, "no readable manifest beside it")


def test_a_manifest_of_another_format(engine: Path) -> None:
    write_manifest(engine, replace(read_manifest(engine), format=99, rwkv_edge_version="7.0"))
    refuses(engine, "is of rwkv-edge 7.0")


def test_a_manifest_that_does_not_count_multiprocessors(engine: Path) -> None:
    """As they were written before: name and compute capability decide."""
    path = manifest_path(engine)
    values = json.loads(path.read_text())
    del values["manifest_sha256"], values["multiprocessors"]
    path.write_text(json.dumps({**values, "manifest_sha256": _digest(values)}))
    nano = replace(ORIN, multiprocessors=8)
    assert verify(engine, replace(HERE, gpu=nano)).multiprocessors is None
    refuses(engine, "here is Orin Nano", replace(HERE, gpu=replace(nano, name="Orin Nano")))


def test_ahead_of_time_for_all_gpus(engine: Path) -> None:
    manifest = read_manifest(engine)
    changed = replace(
        manifest, backend="tensorrt-rtx", compute_capability=None, gpu=None, plugin_sha256=None
    )
    write_manifest(engine, changed)
    verify(engine, replace(HERE, backend="tensorrt-rtx", plugin_sha256=None))
    write_manifest(engine, replace(manifest, backend="tensorrt-rtx"))  # compiled where it is loaded
    verify(engine, replace(HERE, backend="tensorrt-rtx", gpu=replace(ORIN, multiprocessors=8)))
