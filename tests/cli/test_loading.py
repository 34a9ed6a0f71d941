from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import onnx
import pytest
from onnx import TensorProto

from rwkv_edge.cli import main
from rwkv_edge.runtime.backend import TENSORRT, is_installed
from tests.cli.test_cli import fails
from tests.cli.test_run import save_model, square
from tests.conftest import has_cuda_gpu

RUN = ("run", "--source", "a.png", "--no-save")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cv2.imwrite("a.png", square(0))
    save_model(tmp_path / "brightness.onnx")
    return tmp_path


@pytest.fixture
def _no_gpu() -> None:
    if has_cuda_gpu():
        pytest.skip("this machine has a GPU")


def test_on_a_standin(on_a_standin: Callable[[str], None]) -> None:
    on_a_standin("cases_cli.py")


@pytest.mark.usefixtures("_no_gpu")
def test_auto_says_what_it_chose_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*RUN, "--model", "brightness.onnx", "--json", "-"])
    assert caught.value.code == 0
    printed = capsys.readouterr()
    json.loads(printed.out)
    first = printed.err.splitlines()[0]
    assert first.startswith("backend: onnxruntime")
    assert first.endswith("(no GPU here)")


@pytest.mark.usefixtures("_no_gpu", "tensorrt_rtx")
def test_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--model", "brightness.onnx", "--backend", "tensorrt-rtx")
    code, line = fails(capsys, *RUN, *words)
    assert code == 1
    assert "--backend tensorrt-rtx needs a CUDA GPU, and there is none here" in line


def test_no_tensorrt(capsys: pytest.CaptureFixture[str]) -> None:
    if is_installed(TENSORRT):
        pytest.skip("this machine has TensorRT")
    code, line = fails(capsys, *RUN, "--model", "brightness.onnx", "--backend", "tensorrt")
    assert code == 1
    assert "error: tensorrt cannot be used here" in line
    assert "pip install tensorrt" in line


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.engine", None, "no such file; rwkv-edge build makes engines"),
        ("alone.engine", b"an engine", "no readable manifest beside it"),
        ("none.onnx", None, "none.onnx: no such file"),
        ("empty.onnx", b"", "empty.onnx"),
        ("text.onnx", b"no model", "text.onnx"),
    ],
)
def test_files_that_are_no_models(
    name: str, content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    for command in (RUN, ("eval", "--data", "data")):
        if command[0] == "eval":
            for part in ("images", "masks"):
                Path("data", part).mkdir(parents=True)
                cv2.imwrite(f"data/{part}/a.png", square(0)[..., 0])
        code, line = fails(capsys, *command, "--model", name)
        assert code == 1
        assert message in line


def test_a_variant_beside_an_exported_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, *RUN, "--model", "x.onnx", "--variant", "base")
    assert code == 2
    assert "--variant: an exported model is what it is" in line


@pytest.mark.parametrize("command", [RUN, ("build", "--backend", "tensorrt-rtx")])
@pytest.mark.usefixtures("tensorrt_rtx")
def test_data_outside_the_folder(
    command: tuple[str, ...], elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "secret.bin").write_bytes(bytes(4))
    inside = elsewhere / "inside"
    inside.mkdir()
    model = onnx.load("brightness.onnx")
    tensor = next(t for t in model.graph.initializer if t.name == "divisor")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    tensor.external_data.add(key="length", value="4")
    (inside / "model.onnx").write_bytes(model.SerializeToString())
    option = "--onnx" if command[0] == "build" else "--model"
    code, line = fails(capsys, *command, option, "inside/model.onnx")
    assert code == 1
    assert "inside/model.onnx" in line
    assert "secret.bin" in line
