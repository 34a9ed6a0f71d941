from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rwkv_edge import compiler
from rwkv_edge.doctor import accelerator
from rwkv_edge.files import file_sha256
from rwkv_edge.runtime import machine
from rwkv_edge.runtime import plugin as plugins
from rwkv_edge.runtime.backend import Backend
from rwkv_edge.runtime.machine import Gpu
from rwkv_edge.runtime.manifest import Manifest, write_manifest
from rwkv_edge.runtime.plugin import LIBRARY, Plugin
from tests.doctor.orin import write_orin
from tests.doctor.test_machine import told

ORIN = Gpu("Orin", "8.7", 8, "12.6", "")
AMPERE = Gpu("RTX A2000", "8.6", 26, "13.0", "580.95")

BUILT = Manifest(
    engine_sha256="",
    backend="tensorrt-rtx",
    backend_version="",
    compute_capability="8.6",
    gpu=None,
    cuda=None,
    driver=None,
    plugin_sha256=None,
    plugin_version=None,
    onnx="gone.onnx",
    onnx_sha256="",
    weights_sha256="",
    variant="tiny",
    names=("polyp",),
    precision="fp16",
    unquantised_layers=(),
    shapes={"image": ((1, 256, 256, 3),) * 3},
    layers={},
    gate=None,
    command=("rwkv-edge", "build", "--fp16"),
)


def put_gpu(monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None) -> None:
    monkeypatch.setattr(machine, "find_gpu", lambda: gpu)


@pytest.fixture
def cache(compiled_plugin: Plugin, tmp_path: Path) -> Path:
    """A cache with the plugin, compiled for 8.6, where it belongs."""
    folder = tmp_path / "cache"
    shutil.copytree(compiled_plugin.library.parent, plugins.default_folder(folder))
    return folder


def test_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_gpu(monkeypatch, AMPERE)
    (found,) = accelerator.gpu(tmp_path)
    assert found.reason == "RTX A2000, compute capability 8.6, driver 580.95, CUDA up to 13.0"
    put_gpu(monkeypatch, None)
    (found,) = accelerator.gpu(tmp_path)
    assert found.status == "ok"
    assert found.reason == "no CUDA GPU: ONNX Runtime on the CPU is used"
    (found,) = accelerator.gpu(write_orin(tmp_path / "orin"))
    assert found.status == "problem"
    assert "usermod" in found.mend
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text("NVRM version: 580.95")
    (found,) = accelerator.gpu(tmp_path)
    assert found.status == "problem"


def test_a_compiler_newer_than_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "find_tool", lambda name: f"/opt/bin/{name}")
    monkeypatch.setattr(plugins, "compiler_version", lambda nvcc: "13.0")
    for gpu, status in ((ORIN, "warning"), (AMPERE, "ok"), (None, "ok")):
        put_gpu(monkeypatch, gpu)
        (found,) = accelerator.compiler()
        assert found.status == status


def test_no_tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("rwkv_edge.runtime.backend.is_installed", lambda name: False)
    for gpu, root, status in (
        (None, tmp_path, "ok"),
        (AMPERE, tmp_path, "warning"),
        (ORIN, write_orin(tmp_path / "orin"), "warning"),
    ):
        put_gpu(monkeypatch, gpu)
        (found,) = accelerator.tensorrt(root, tmp_path)
        assert found.status == status
    assert "--system-site-packages" in found.mend


def test_tensorrt_rtx_loads_the_plugin(cache: Path, tensorrt_rtx: Backend) -> None:
    found = told(accelerator.tensorrt_rtx(cache))
    assert found["TensorRT-RTX"].reason == f"{tensorrt_rtx.version}, imported"
    assert found["Plugin in TensorRT-RTX"].reason == "loaded"


def test_a_plugin_that_others_can_change_is_not_loaded(cache: Path, tensorrt_rtx: Backend) -> None:
    mode = cache.stat().st_mode
    cache.chmod(0o777)
    try:
        found = told(accelerator.tensorrt_rtx(cache))
    finally:
        cache.chmod(mode)
    assert found["Plugin in TensorRT-RTX"].status == "problem"
    assert "others can write into it" in found["Plugin in TensorRT-RTX"].reason


def test_a_library_that_is_no_plugin(
    cache: Path, tensorrt_rtx: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwkv_edge.runtime.backend.VERSION", "7")  # not registered by other tests
    found = told(accelerator.tensorrt_rtx(cache))
    assert found["Plugin in TensorRT-RTX"].status == "problem"
    assert "finds no BiWKV version 7" in found["Plugin in TensorRT-RTX"].reason
    assert "rwkv-edge plugin build" in found["Plugin in TensorRT-RTX"].mend


def test_the_plugin_and_what_can_be_wrong_with_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put_gpu(monkeypatch, AMPERE)
    (found,) = accelerator.plugin(cache)
    assert found.status == "ok"
    assert "compiled for 86" in found.reason
    put_gpu(monkeypatch, ORIN)
    (found,) = accelerator.plugin(cache)
    assert found.status == "problem"
    assert found.mend == "rwkv-edge plugin build --arch 87"
    with (plugins.default_folder(cache) / LIBRARY).open("ab") as file:
        file.write(b"x")
    (found,) = accelerator.plugin(cache)
    assert found.status == "problem"
    (found,) = accelerator.plugin(tmp_path / "empty")
    assert found.status == "warning"
    put_gpu(monkeypatch, None)
    (found,) = accelerator.plugin(tmp_path / "empty")
    assert found.status == "ok"


def test_a_plugin_of_other_sources(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(plugins.sources_folder(), tmp_path / "plugins")
    (tmp_path / "plugins" / "bi_wkv" / "bi_wkv_kernel.h").write_text("// changed\n")
    monkeypatch.setattr(compiler, "_SOURCE_FOLDERS", (tmp_path / "plugins",))
    (found,) = accelerator.plugin(cache)
    assert found.status == "warning"
    assert "other sources" in found.reason


def test_engines_without_a_manifest(tmp_path: Path) -> None:
    (found,) = accelerator.engines(tmp_path / "cache", tmp_path)
    assert found.status == "ok"
    (tmp_path / "a.engine").write_bytes(b"engine")
    (tmp_path / "b.engine").write_bytes(b"engine")
    (tmp_path / "b.engine.json").write_text(json.dumps({"format": 0}))
    found_a, found_b = accelerator.engines(tmp_path / "cache", tmp_path)
    assert found_a.status == found_b.status == "warning"
    assert found_a.reason.startswith("no readable manifest")
    assert "rwkv-edge build" in found_a.mend
    assert "not a manifest" in found_b.reason


def test_an_engine_of_this_machine_and_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensorrt_rtx: Backend
) -> None:
    path = tmp_path / "cache" / "tiny.engine"
    path.parent.mkdir()
    path.write_bytes(b"engine")
    version = tensorrt_rtx.version
    write_manifest(path, replace(BUILT, backend_version=version, engine_sha256=file_sha256(path)))
    for gpu, status, words in (
        (AMPERE, "ok", "for this machine"),
        (ORIN, "warning", "built for compute capability 8.6, Orin has 8.7"),
        (None, "ok", "there is no CUDA GPU here"),
    ):
        put_gpu(monkeypatch, gpu)
        (found,) = accelerator.engines(tmp_path / "cache", tmp_path)
        assert found.status == status
        assert words in found.reason
        assert ("rwkv-edge build --fp16" in found.mend) == (status == "warning")
