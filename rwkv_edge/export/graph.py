"""Reading an exported ONNX file with care, and what TensorRT wants changed in it.

Every function returns a new model and leaves its argument alone. No Torch here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from rwkv_edge.errors import BackendError
from rwkv_edge.operators import NAMES

_NETWORK = "network."


def read_onnx(path: Path) -> ModelProto:
    """Read and check a file of `rwkv-edge export`.

    Args:
        path: ONNX file; data outside the file may lie beside it, never outside its folder.

    Raises:
        BackendError: missing, empty, truncated, damaged, not one of ours, or with external data
            that is missing or points outside the folder.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BackendError(f"{path}: {error.strerror or error}") from error
    if not content:
        raise BackendError(f"{path}: the file is empty (0 bytes); export the model again")
    try:
        model = ModelProto()
        model.ParseFromString(content)
        _load_external_data(model, path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackendError(
            f"{path}: truncated, damaged or not an ONNX file ({reason}); export the model again"
        ) from error
    inputs, outputs = model.graph.input, model.graph.output
    if (
        [value.name for value in inputs] != ["image"]
        or inputs[0].type.tensor_type.elem_type != TensorProto.UINT8
        or [value.name for value in outputs] != ["probability"]
        or len(_dimensions(inputs[0])) != 4
        or 0 in _dimensions(inputs[0])
    ):
        raise BackendError(f"{path}: not a model of rwkv-edge export (uint8 image in)")
    return model


def _load_external_data(model: ModelProto, path: Path) -> None:
    folder = path.parent.resolve()
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        target = (folder / location).resolve()
        if not location or folder not in target.parents:
            raise BackendError(
                f"{path}: its external data '{location}' points outside its folder; refused"
            )
        if not target.is_file():
            raise BackendError(f"{path}: its external data '{location}' is missing beside it")
    onnx.load_external_data_for_model(model, str(folder))


def input_shape(model: ModelProto) -> tuple[int, int, int, int]:
    """Return the input's shape (N, H, W, 3); N is 0 where it is dynamic."""
    n, height, width, channels = _dimensions(model.graph.input[0])
    return n, height, width, channels


def properties(model: ModelProto) -> dict[str, str]:
    """Return the metadata that the export wrote."""
    return {entry.key: entry.value for entry in model.metadata_props}


def copy_model(model: ModelProto) -> ModelProto:
    """Return a copy without the intermediate shapes, which changes would make untrue."""
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    return copy


def prune_initializers(model: ModelProto) -> None:
    """Remove, in place, the constants that no node reads any more."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def cast_input_first(model: ModelProto) -> ModelProto:
    """Move the cast to floating point right behind the input.

    TensorRT knows uint8 as the type of an input and of the cast that reads it, and nowhere else;
    a file may flip the channels first, which is cheaper elsewhere.
    """
    result = copy_model(model)
    graph = result.graph
    image = graph.input[0].name
    readers = [node for node in graph.node if image in node.input]
    if all(node.op_type == "Cast" for node in readers):
        return result
    cast = next(node for node in graph.node if node.op_type == "Cast")
    element = next(attribute.i for attribute in cast.attribute if attribute.name == "to")
    graph.node.remove(cast)
    _rename_inputs(graph.node, cast.output[0], cast.input[0])
    _rename_inputs(graph.node, image, f"{image}_cast")
    first = helper.make_node("Cast", [image], [f"{image}_cast"], name="cast_input", to=element)
    graph.node.insert(0, first)
    return result


def set_batch(model: ModelProto, batch: int | None) -> ModelProto:
    """Give the model another batch size; None makes it dynamic.

    The batch stands in the input, the output, the targets of Reshape and the sizes of Resize;
    sizes become scales, which all of TensorRT's parsers take with a dynamic batch.
    """
    result = copy_model(model)
    inferred = {v.name: _dimensions(v) for v in infer_types(model)}
    graph = result.graph
    for value in (*graph.input, *graph.output):
        dimension = value.type.tensor_type.shape.dim[0]
        dimension.Clear()
        if batch is None:
            dimension.dim_param = "batch"
        else:
            dimension.dim_value = batch
    constants = {tensor.name: tensor for tensor in graph.initializer}

    def put(name: str, value: np.ndarray) -> str:
        """Each node gets constants of its own; those of an earlier change are replaced."""
        tensor = constants.get(name) or graph.initializer.add()
        tensor.CopyFrom(numpy_helper.from_array(value, name))
        return name

    for node in graph.node:
        if node.op_type == "Reshape":
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            shape[0] = -1 if batch is None else batch
            node.input[1] = put(f"{node.name}_shape", shape)
        elif node.op_type == "Resize" and len(node.input) == 4:
            before, after = inferred[node.input[0]], inferred[node.output[0]]
            scales = np.array([1, 1, *(b / a for a, b in zip(before[2:], after[2:], strict=True))])
            del node.input[2:]
            node.input.append(put(f"{node.name}_scales", scales.astype(np.float32)))
    prune_initializers(result)
    return result


def without_functions(model: ModelProto) -> ModelProto:
    """Drop what defines our operators in standard ones, so that every parser asks for plugins."""
    result = copy_model(model)
    kept = [function for function in result.functions if function.name not in NAMES]
    del result.functions[:]
    result.functions.extend(kept)
    return result


def layer_groups(model: ModelProto) -> dict[str, list[str]]:
    """Name the layers as the network does: 'encoder.stage3.1.att', 'ccm.projections', 'decoder2'.

    Returns:
        The names of the nodes of each layer, in the order of the graph. A node without parameters
        of its own belongs to the layer before it.
    """
    groups: dict[str, list[str]] = {}
    layer = "input"
    for node in model.graph.node:
        for name in node.input:
            if name.startswith(_NETWORK):
                parts = name.removeprefix(_NETWORK).split(".")[:-1]
                layer = ".".join(parts[: 4 if parts[0] == "encoder" else 2])
        groups.setdefault(layer, []).append(node.name)
    return groups


def infer_types(model: ModelProto) -> list[onnx.ValueInfoProto]:
    """Return type and shape of every value of the graph, inputs and outputs included."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return [*graph.input, *graph.value_info, *graph.output]


def raise_opset(model: ModelProto, version: int) -> None:
    """Declare, in place, at least this version of the standard operators, in the functions too.

    Between 18 and 22 the operators of our graphs only gained types, so nothing else changes.
    """
    for owner in (model, *model.functions):
        for opset in owner.opset_import:
            if opset.domain == "":
                opset.version = max(opset.version, version)


def _dimensions(value: onnx.ValueInfoProto) -> list[int]:
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


def _rename_inputs(nodes: Iterable[NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
