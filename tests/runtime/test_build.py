"""Real engines of TensorRT-RTX, which builds them on a machine without a GPU."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from onnx import ModelProto

from rwkv_edge.errors import BackendError, UsageError
from rwkv_edge.export import export_onnx
from rwkv_edge.export.graph import cast_input_first, read_onnx, set_batch, without_functions
from rwkv_edge.export.precision import to_16_bits
from rwkv_edge.models import CheckpointInfo, create_model, load_model
from rwkv_edge.runtime import backend as backends
from rwkv_edge.runtime import build as building
from rwkv_edge.runtime import tensorrt as running
from rwkv_edge.runtime.backend import TENSORRT, Backend, is_installed, load_backend, load_plugin
from rwkv_edge.runtime.build import Batch, BuiltEngine, Target, build_engine
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.runtime.plugin import Plugin
from rwkv_edge.weights import shipped_checkpoint

AMPERE = Target(compute_capability="8.6")
ATTENTION_BLOCKS = {"tiny": 4, "small": 7}
OUR_NODES = {name: 2 * blocks + 1 for name, blocks in ATTENTION_BLOCKS.items()}
"""In each attention block bi-WKV and ShiftMix; one ShiftMix more in ChannelMix."""
STUBS = "tensorrt-stubs==10.13.0.35.1"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The very files that ONNX Runtime runs: Tiny with shipped weights, Small with drawn ones."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("exported")
    files = {variant: folder / f"{variant}.onnx" for variant in ATTENTION_BLOCKS}
    export_onnx(*load_model(shipped_checkpoint("tiny")), files["tiny"], imgsz=(256, 256))
    small = create_model("small").eval()
    export_onnx(small, CheckpointInfo("small"), files["small"], imgsz=(64, 64))
    return files


def engine_of(backend: Backend, model: ModelProto, batch: Batch | None = None) -> BuiltEngine:
    return build_engine(backend, model.SerializeToString(), batch or Batch(), AMPERE)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("variant", ["tiny", "small"])
def test_engines_with_the_plugin(
    exported: dict[str, Path],
    compiled_plugin: Plugin,
    tensorrt_rtx: Backend,
    variant: str,
    precision: str,
) -> None:
    OnnxRuntimeRunner(exported[variant])
    load_plugin(tensorrt_rtx, compiled_plugin.library)
    model = cast_input_first(read_onnx(exported[variant]))
    if precision == "fp16":
        model = to_16_bits(model, "float16")
    engine = engine_of(tensorrt_rtx, model)
    ours = [node.name for node in model.graph.node if node.domain == "rwkv_edge"]
    assert engine.layers["PLUGIN_V3"] == len(ours) == OUR_NODES[variant]
    assert sorted(engine.plugin_layers) == sorted(ours)
    assert "CUMULATIVE" not in engine.layers
    assert len(engine.plan) > 1e6
    assert engine_of(tensorrt_rtx, without_functions(model)).layers == engine.layers


def test_float16_engines_are_smaller(exported: dict[str, Path], tensorrt_rtx: Backend) -> None:
    wide = cast_input_first(read_onnx(exported["small"]))
    sizes = [
        len(engine_of(tensorrt_rtx, model).plan) for model in (wide, to_16_bits(wide, "float16"))
    ]
    assert sizes[1] < 0.7 * sizes[0]


def test_native_layers_without_the_plugin(exported: dict[str, Path], tmp_path: Path) -> None:
    """In a process of its own: a loaded plugin cannot be unloaded."""
    if not is_installed(backends.TENSORRT_RTX):
        pytest.skip("tensorrt-rtx is not installed: no engine is built")
    code = f"""
from pathlib import Path
from rwkv_edge.export.graph import *
from rwkv_edge.runtime.backend import *
from rwkv_edge.runtime.build import *
backend = load_backend("tensorrt-rtx")
model = cast_input_first(read_onnx(Path({str(exported["small"])!r})))
target = Target(compute_capability="8.6")
engine = build_engine(backend, model.SerializeToString(), Batch(), target)
print(engine.layers.get("PLUGIN_V3"), engine.layers["CUMULATIVE"], engine.plugin_layers)
try:
    build_engine(backend, without_functions(model).SerializeToString(), Batch(), target)
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert lines[:1] == [f"None {4 * ATTENTION_BLOCKS['small']} ()"], done.stderr
    assert re.search(
        r"layer '\w+' \((BiWKV|ShiftMix[23])\): the plugin is missing; .*build", lines[1]
    )


def test_a_range_of_batches(
    exported: dict[str, Path], compiled_plugin: Plugin, tensorrt_rtx: Backend
) -> None:
    load_plugin(tensorrt_rtx, compiled_plugin.library)
    model = set_batch(cast_input_first(read_onnx(exported["small"])), None)
    steps: list[int] = []
    engine = build_engine(
        tensorrt_rtx,
        model.SerializeToString(),
        Batch(1, 2, 4),
        AMPERE,
        lambda: steps.append(1),
    )
    assert engine.layers["PLUGIN_V3"] == OUR_NODES["small"]
    assert len(steps) > 10


def test_what_tensorrt_rtx_does_not_have(
    exported: dict[str, Path], tensorrt_rtx: Backend, tmp_path: Path
) -> None:
    model = cast_input_first(read_onnx(exported["small"])).SerializeToString()
    with pytest.raises(UsageError, match="--timing-cache"):
        build_engine(tensorrt_rtx, model, Batch(), Target("8.6", timing_cache=tmp_path / "cache"))
    ahead = Target("8.6")
    other = Backend("tensorrt", tensorrt_rtx.module, "10.3")
    with pytest.raises(UsageError, match="tensorrt builds for the GPU that it runs on"):
        build_engine(other, model, Batch(), ahead)


@pytest.mark.parametrize("capability", ["8.7", "9.0", "1", "x"])
def test_gpus_that_are_not_built_for(
    exported: dict[str, Path], tensorrt_rtx: Backend, capability: str
) -> None:
    model = cast_input_first(read_onnx(exported["small"])).SerializeToString()
    with pytest.raises(UsageError, match=r"builds for 7\.5, .*8\.6.*, build on it"):
        build_engine(tensorrt_rtx, model, Batch(), Target(capability))


def test_the_layer_that_fails_is_named(exported: dict[str, Path], tensorrt_rtx: Backend) -> None:
    uint8_slice = read_onnx(exported["tiny"])
    first = uint8_slice.graph.node[0]
    if first.op_type == "Cast":
        first.op_type = "Frobnicate"
    with pytest.raises(BackendError, match=rf"does not support layer '{first.name}'") as caught:
        engine_of(tensorrt_rtx, uint8_slice)
    assert "\n" not in str(caught.value)
    with pytest.raises(BackendError, match="does not read the model"):
        build_engine(tensorrt_rtx, b"no model", Batch(), AMPERE)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("[virtualMemoryBuffer.cpp] Error Code 2: OutOfMemory (Requested 512 MB)", "add swap"),
        ("Error Code 1: Cuda Runtime (out of memory)", "lower --workspace"),
        (
            "Error Code 10: Could not find any implementation for node {ForeignNode[conv_3...y]}.",
            r"layer 'conv_3\.\.\.y'; raise --workspace",
        ),
        ("Error Code 9: something else", "failed: Error Code 9: something else"),
    ],
)
def test_what_to_do_about_a_failed_build(error: str, advice: str) -> None:
    backend = Backend("tensorrt-rtx", sys, "1.7")
    assert re.search(advice, building._explain(backend, [error]))


def test_ctrl_c_stops_the_build(exported: dict[str, Path], tensorrt_rtx: Backend) -> None:
    model = cast_input_first(read_onnx(exported["small"])).SerializeToString()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build_engine(
            tensorrt_rtx, model, Batch(), AMPERE, lambda: os.kill(os.getpid(), signal.SIGINT)
        )
    assert signal.getsignal(signal.SIGINT) is before


def test_no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError, match=r"^tensorrt cannot be used here .*JetPack") as caught:
        load_backend(TENSORRT)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_names_and_signatures_are_tensorrts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mypy against TensorRT's stubs, which pip cannot install: they require TensorRT itself."""
    mypy = pytest.importorskip("mypy.api")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    subprocess.run([*command, str(tmp_path), STUBS], capture_output=True, check=False)
    wheels = list(tmp_path.glob("tensorrt_stubs*.whl"))
    if not wheels:
        pytest.skip(f"{STUBS} could not be downloaded: signatures are not checked")
    stubs = tmp_path / "stubs"
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extractall(stubs)
    shutil.rmtree(stubs / "tensorrt_stubs")
    _mend(stubs / "tensorrt_bindings" / "tensorrt.pyi")
    probe = tmp_path / "probe.py"
    probe.write_text("import tensorrt as trt\nb: trt.Builder\nb.create_netwrok(1)\n")
    monkeypatch.setenv("MYPYPATH", str(stubs))
    options = ["--follow-imports", "silent", "--cache-dir", str(tmp_path / "cache")]
    sources = [module.__file__ for module in (building, backends, running)]
    output, _, _ = mypy.run([*options, *sources, str(probe)])
    lines = [line for line in output.splitlines() if "/stubs/" not in line]
    assert any('"Builder" has no attribute "create_netwrok"' in line for line in lines)
    assert [line for line in lines if "probe.py" not in line and ": error:" in line] == []


def _mend(stub: Path) -> None:
    """Put right what is not Python in the stubs: a parameter `in`, and one without a default."""
    text = re.sub(r"\bin: ", "in_: ", stub.read_text())
    stub.write_text(text.replace(", channel_axis: int)", ", channel_axis: int = ...)"))
