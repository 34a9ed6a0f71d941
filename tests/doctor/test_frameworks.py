from __future__ import annotations

import importlib.util
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from rwkv_edge.doctor import frameworks, media
from tests.doctor.orin import write_orin
from tests.doctor.test_machine import told


def test_the_tiny_model_is_what_it_says() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.UINT8, [1]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:]
    )
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    assert model.SerializeToString() == frameworks.IDENTITY_MODEL
    onnx.checker.check_model(model)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_onnxruntime_silently_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    names = ["CUDAExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    found = told(frameworks.onnxruntime())
    assert list(found) == ["ONNX Runtime", "CPUExecutionProvider", "CUDAExecutionProvider"]
    assert found["CPUExecutionProvider"].reason == "works"
    assert "CPUExecutionProvider runs instead" in found["CUDAExecutionProvider"].reason


def test_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    found = told(frameworks.openvino())["OpenVINO"]
    assert found.status == "ok"
    assert found.reason.startswith(openvino.__version__.split("-")[0])
    assert "computes in FP32" in found.reason

    def broken(*_: object) -> str:
        raise RuntimeError("no plugin for CPU\nmore")

    monkeypatch.setattr(openvino.Core, "get_property", broken)
    found = told(frameworks.openvino())["OpenVINO"]
    assert (found.status, found.reason) == ("warning", "no plugin for CPU")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "rwkv-edge[openvino]" in told(frameworks.openvino())["OpenVINO"].mend


def test_torch_without_importing_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "version.py").write_text(
        "from typing import Optional\ncuda: Optional[str] = '12.6'\n"
    )
    monkeypatch.setattr(frameworks, "version", lambda name: "2.10.0")
    spec = importlib.util.spec_from_file_location("torch", package / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert told(frameworks.torch())["Torch"].reason == "2.10.0, built for CUDA 12.6"


def test_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise frameworks.PackageNotFoundError(name)

    monkeypatch.setattr(frameworks, "version", missing)
    found = told(frameworks.torch())["Torch"]
    assert found.status == "ok"
    assert "training and export need it" in found.reason


def test_opencv_of_pip_on_a_jetson(tmp_path: Path) -> None:
    found = told(media.opencv(write_orin(tmp_path)))["OpenCV"]
    assert "without GStreamer" in found.reason  # the wheel that this project depends on
    assert found.status == "warning"
    assert "hides JetPack's" in found.reason
    assert found.mend.startswith("pip uninstall opencv")


def test_encoders() -> None:
    assert "H.264" in told(media.pyav())["PyAV"].reason
