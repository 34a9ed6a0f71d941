from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import pytest

from rwkv_edge import compiler
from rwkv_edge.errors import BackendError
from rwkv_edge.runtime import plugin as plugins
from rwkv_edge.runtime.backend import Backend, load_plugin
from rwkv_edge.runtime.plugin import LIBRARY, Plugin, build_plugin, find_plugin


def test_describes_itself(compiled_plugin: Plugin) -> None:
    assert compiled_plugin.library.name == LIBRARY
    assert compiled_plugin.architectures == ("86",)
    assert compiled_plugin.headers.split(".")[0].isdecimal()
    assert compiled_plugin.cuda.split(".")[0].isdecimal()
    assert compiled_plugin.sources == compiler.sources_sha256()
    assert find_plugin(compiled_plugin.library) == compiled_plugin
    assert find_plugin(compiled_plugin.library.parent) == compiled_plugin


def test_a_changed_library_is_not_found(compiled_plugin: Plugin, tmp_path: Path) -> None:
    shutil.copytree(compiled_plugin.library.parent, tmp_path / "copy")
    copy = tmp_path / "copy"
    assert find_plugin(copy) is not None
    with (copy / LIBRARY).open("ab") as file:
        file.write(b"x")
    assert find_plugin(copy) is None
    (copy / LIBRARY).with_suffix(".json").write_text("{")
    assert find_plugin(copy) is None
    assert find_plugin(tmp_path / "none") is None


@pytest.mark.parametrize("missing", ["nvcc", "cmake"])
def test_missing_tools(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = plugins.find_tool
    monkeypatch.setattr(plugins, "find_tool", lambda n: None if n == missing else real(n) or n)
    with pytest.raises(BackendError, match=f"^{missing} was not found") as caught:
        build_plugin(tmp_path / "out", ["86"])
    assert "--no-plugin" in str(caught.value)
    assert not (tmp_path / "out").exists()


def fake_cmake(folder: Path, script: str) -> str:
    path = folder / "cmake"
    path.write_text(f"#!/bin/sh\n{script}\nexit 1\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            'echo "CMake Error: TensorRT\'s headers were not found. On a Jetson: x" >&2',
            "libnvinfer-headers-dev.*--headers DIR, or --fetch-headers",
        ),
        ('echo "bi_wkv_kernel.cu(7): error: expected a ;"', r"does not compile: .*\(7\): error"),
        ("echo; echo killed", "does not compile: killed"),
    ],
)
def test_failed_builds(
    script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = fake_cmake(tmp_path, script)
    monkeypatch.setattr(plugins, "find_tool", lambda name: tool)
    with pytest.raises(BackendError, match=message) as caught:
        build_plugin(tmp_path / "out", ["86"])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_tensorrt_rtx_loads_it(compiled_plugin: Plugin, tensorrt_rtx: Backend) -> None:
    load_plugin(tensorrt_rtx, compiled_plugin.library)
    load_plugin(tensorrt_rtx, compiled_plugin.library)  # again does no harm


def test_a_plugin_of_another_version(
    compiled_plugin: Plugin, tensorrt_rtx: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwkv_edge.runtime.backend.VERSION", "2")
    with pytest.raises(BackendError, match="finds no BiWKV version 2 in it"):
        load_plugin(tensorrt_rtx, compiled_plugin.library)


@pytest.mark.parametrize(
    ("machine", "word"), [("x86_64", "aarch64"), ("aarch64", "x86_64"), ("x86_64", "another")]
)
def test_a_library_of_another_processor(
    machine: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    number = {"x86_64": 62, "aarch64": 183, "another": 243}[word]  # of elf.h
    path = tmp_path / LIBRARY
    path.write_bytes(b"\x7fELF".ljust(18, b"\0") + number.to_bytes(2, "little"))
    with pytest.raises(BackendError, match=f"compiled for {word}.*, this machine is {machine};"):
        load_plugin(Backend("tensorrt", sys, "10.3"), path)


@pytest.mark.parametrize("content", [b"", b"not a library"])
def test_no_library(
    tensorrt_rtx: Backend, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwkv_edge.runtime.backend.VERSION", "3")  # not registered by other tests
    path = tmp_path / LIBRARY
    path.write_bytes(content)
    with pytest.raises(BackendError, match="rwkv-edge plugin build") as caught:
        load_plugin(tensorrt_rtx, path)
    assert "\n" not in str(caught.value)
