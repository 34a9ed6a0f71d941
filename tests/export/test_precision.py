from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from rwkv_edge.data.synth import render_image
from rwkv_edge.errors import ExportError
from rwkv_edge.export import export_onnx
from rwkv_edge.export.gate import compare, predict
from rwkv_edge.export.graph import cast_input_first, layer_groups, read_onnx
from rwkv_edge.export.lower import Lowering
from rwkv_edge.export.precision import emulate_bfloat16, to_16_bits
from rwkv_edge.export.quantize import Quantizer
from rwkv_edge.models import CheckpointInfo, create_model
from rwkv_edge.preprocess import FloatArray, UInt8Array
from rwkv_edge.weights import shipped_onnx

SIZE = 64
HURT = "decoder3"


def open_network(model: ModelProto) -> Callable[[UInt8Array], FloatArray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(model.SerializeToString(), options)
    return lambda image: session.run(None, {"image": image})[0]  # type: ignore[no-any-return]


@contextmanager
def no_bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


@pytest.fixture(scope="module")
def tiny() -> ModelProto:
    """The shipped network, at 256 x 256."""
    return cast_input_first(read_onnx(shipped_onnx("tiny")))


@pytest.fixture(scope="module")
def frames() -> list[UInt8Array]:
    return [render_image(seed, (256, 256)).image for seed in range(2)]


@pytest.fixture(scope="module")
def small_input(tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """The shipped weights at 64 x 64: quick, and with something to find."""
    from rwkv_edge.models import load_model
    from rwkv_edge.weights import shipped_checkpoint

    network, info = load_model(shipped_checkpoint("tiny"))
    path = tmp_path_factory.mktemp("precision") / "tiny-64.onnx"
    export_onnx(network, info, path, imgsz=(SIZE, SIZE))
    return cast_input_first(read_onnx(path))


@pytest.fixture(scope="module")
def small_frames() -> list[UInt8Array]:
    return [render_image(seed, (SIZE, SIZE)).image for seed in range(4)]


def elements(model: ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    types = {v.name: v.type.tensor_type.elem_type for v in values}
    return types | {t.name: t.data_type for t in graph.initializer}


@pytest.mark.parametrize(
    ("dtype", "element"), [("float16", TensorProto.FLOAT16), ("bfloat16", TensorProto.BFLOAT16)]
)
def test_types_stand_in_the_graph(tiny: ModelProto, dtype: str, element: int) -> None:
    model = to_16_bits(tiny, dtype)
    onnx.checker.check_model(model, full_check=True)
    types = elements(model)
    assert types["image"] == TensorProto.UINT8
    assert types["probability"] == TensorProto.FLOAT
    for node in model.graph.node:
        read = [types[name] for name in node.input if name]
        if (
            node.op_type in ("Conv", "MatMul", "Add", "Sigmoid", "ShiftMix2", "ShiftMix3")
            and "probability" not in node.output
        ):
            assert set(read) == {element}, node.name
        elif node.op_type in ("LayerNormalization", "Pow", "ReduceMean"):
            assert read[0] == TensorProto.FLOAT, node.name
        elif node.op_type == "BiWKV":
            assert read == [TensorProto.FLOAT] * 2 + [element] * 2
            assert types[node.output[0]] == element
    assert [f.name for f in model.functions] == [f.name for f in tiny.functions]
    assert model.metadata_props == tiny.metadata_props
    assert model.ByteSize() < 0.6 * tiny.ByteSize()


def test_float16_runs_and_stays_close(tiny: ModelProto, frames: list[UInt8Array]) -> None:
    expected = list(predict(open_network(tiny), frames))
    result = compare(expected, predict(open_network(to_16_bits(tiny, "float16")), frames))
    assert result.reference_pixels > 0
    assert result.passes(0.005)
    # the largest error is one pixel's, on an edge, and grows with how steep training made edges
    assert result.max_error > 0
    assert result.disagreement < 1e-3


def test_kept_nodes_stay_float32(tiny: ModelProto) -> None:
    names = {node.name for node in tiny.graph.node if node.op_type == "Conv"}
    kept = sorted(names)[3]
    model = to_16_bits(tiny, "float16", {kept})
    types = elements(model)
    for node in model.graph.node:
        if node.name in names:
            expected = TensorProto.FLOAT if node.name == kept else TensorProto.FLOAT16
            assert types[node.input[1]] == expected


def test_bfloat16_is_emulated_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=(7, 9)).astype(np.float32) for _ in range(2))
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "w"], ["m"], "m"),
            helper.make_node("Abs", ["m"], ["y"], "a"),
        ],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(w, "w")],
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    emulated = emulate_bfloat16(to_16_bits(model, "bfloat16"))
    session = ort.InferenceSession(emulated.SerializeToString())
    bf = ml_dtypes.bfloat16
    exact = np.abs((x.astype(bf) * w.astype(bf)).astype(np.float32))
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], exact)


def test_bfloat16_is_coarser_than_float16(
    small_input: ModelProto, small_frames: list[UInt8Array]
) -> None:
    expected = list(predict(open_network(small_input), small_frames))
    errors = []
    for dtype in ("float16", "bfloat16"):
        model = emulate_bfloat16(to_16_bits(small_input, dtype))
        errors.append(compare(expected, predict(open_network(model), small_frames)).max_error)
    assert 0 < 2 * errors[0] < errors[1] < 0.2


def test_int8_is_symmetric_and_a_channel_each(
    small_input: ModelProto, small_frames: list[UInt8Array]
) -> None:
    quantizer = Quantizer(small_input, small_frames)
    layers = layer_groups(small_input)
    model = to_16_bits(quantizer(layers[f"{HURT}.conv"]), "float16")
    onnx.checker.check_model(model, full_check=True)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    producer = {name: node for node in model.graph.node for name in node.output}
    quantised, types = 0, elements(model)
    for node in model.graph.node:
        if node.op_type.startswith("ShiftMix"):  # two taps a channel: nothing for int8 to gain
            assert {types[name] for name in (*node.input, *node.output)} == {TensorProto.FLOAT16}
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = constants[node.input[1]], constants[node.input[2]]
            assert scale.dtype == np.float16
            assert scale.min() >= 2.0**-14
            assert zero.dtype == np.int8
            assert not zero.any()
        if node.op_type == "Conv":
            sources = [producer.get(name) for name in node.input[:2]]
            is_int8 = [s is not None and s.op_type == "DequantizeLinear" for s in sources]
            assert is_int8 == [node.name not in layers[f"{HURT}.conv"]] * 2
            if is_int8[1] and sources[1] is not None:
                weight, scale = (constants[name] for name in sources[1].input[:2])
                assert scale.shape == weight.shape[:1]
                quantised += 1
    assert quantised > 40
    result = compare(
        predict(open_network(small_input), small_frames), predict(open_network(model), small_frames)
    )
    assert result.non_finite == 0
    assert result.max_error < 0.9


@pytest.fixture(scope="module")
def overflowing(small_input: ModelProto) -> ModelProto:
    """The same function in float32, with values of 1e9 between two layers: float16 cannot."""
    model = ModelProto()
    model.CopyFrom(small_input)
    for tensor in model.graph.initializer:
        name = tensor.name.removeprefix("network.")
        factor = {
            f"{HURT}.conv.weight": 1e9,
            f"{HURT}.conv.bias": 1e9,
            f"{HURT}.conv_skip.weight": 1e9,
            f"{HURT}.conv_local.conv.weight": 1e-9,
        }.get(name)
        if factor is not None:
            scaled = numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    return model


@pytest.mark.slow
def test_the_gate_names_the_layer_that_hurts(
    overflowing: ModelProto, small_frames: list[UInt8Array]
) -> None:
    lowering = Lowering(overflowing, small_frames, open_network, 0.005, no_bar)
    with pytest.raises(ExportError, match=r"fp16 loses 1\.0000 of Dice") as caught:
        lowering("fp16")
    message = str(caught.value)
    assert "\n" not in message
    assert "not finite" in message
    assert message.split("hurt most: ")[1].startswith(HURT)


@pytest.mark.slow
def test_int8_leaves_out_what_hurts(
    small_input: ModelProto, small_frames: list[UInt8Array]
) -> None:
    first = Lowering(small_input, small_frames, open_network, 1.0, no_bar)("int8")
    assert first.unquantised_layers == ()
    limit = first.gate.dice_drop / 2
    assert limit > 0
    lowered = Lowering(small_input, small_frames, open_network, limit, no_bar)("int8")
    assert lowered.gate.dice_drop <= limit
    assert lowered.unquantised_layers


def test_empty_masks_prove_nothing(small_input: ModelProto) -> None:
    black = [np.zeros((SIZE, SIZE, 3), np.uint8)]
    with pytest.raises(ExportError, match="float32 finds nothing in these 1 images"):
        Lowering(small_input, black, open_network, 0.005, no_bar)("fp16")


def test_gate_figures() -> None:
    want = np.zeros((2, 1, 4, 4), np.float32)
    want[:, 0, :2] = 0.9
    have = want.copy()
    have[1, 0, 0, 0] = 0.4
    result = compare(want, have)
    assert result.dice == pytest.approx(2 * 15 / 31)
    assert result.worst_dice == pytest.approx(2 * 7 / 15)
    assert result.disagreement == 1 / 32
    assert result.max_error == pytest.approx(0.5)
    assert not result.passes(0.03)
    assert result.passes(0.04)
    have[0, 0, 3, 3] = np.nan
    broken = compare(want, have)
    assert broken.non_finite == 1
    assert not broken.passes(1.0)
    assert not broken.passes(0.5)
    assert not compare(want * 0, want * 0).passes(0.5)


def test_a_second_class_counts() -> None:
    want = np.zeros((1, 3, 2, 2), np.float32)
    want[0, 1] = 0.8
    have = want[:, [0, 2, 1]]
    assert compare(want, have).dice == 0
    assert compare(want, want).dice == 1


def test_models_without_bi_wkv_convert(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "unet.onnx"
    export_onnx(create_model("unet").eval(), CheckpointInfo("unet"), path, imgsz=(32, 32))
    model = to_16_bits(cast_input_first(read_onnx(path)), "float16")
    onnx.checker.check_model(model, full_check=True)
    assert open_network(model)(np.zeros((1, 32, 32, 3), np.uint8)).dtype == np.float32
