"""Build one node with TensorRT-RTX and its plugin; run by test_plugin_library.py.

    python tensorrt_rtx_build.py librwkv_edge_plugin.so BiWKV float16

Prints, as JSON, the network's plugin layers, the outputs' types and shapes, and the size of the
engine. A process of its own, since the parser needs LD_LIBRARY_PATH set before it starts.
"""

from __future__ import annotations

import json
import sys

import onnx
import tensorrt_rtx as trt
from onnx import TensorProto, helper

CHANNELS = 288


TOKENS = ((1, 1, CHANNELS), (1, 1024, CHANNELS), (4, 4096, CHANNELS))
MAPS = ((1, CHANNELS, 1, 1), (1, CHANNELS, 32, 32), (4, CHANNELS, 64, 64))


def model(operator: str, dtype: str) -> bytes:
    """One node; w and u, or the weights of the mixes, as constants; all else dynamic."""
    element = TensorProto.DataType.Value({"float32": "FLOAT"}.get(dtype, dtype.upper()))
    if operator == "BiWKV":
        constants = [
            helper.make_tensor(n, TensorProto.FLOAT, [CHANNELS], [0.01] * CHANNELS) for n in "wu"
        ]
        inputs, outputs, attributes = ["k", "v"], ["y"], {}
        shape, result = ["batch", "tokens", CHANNELS], ["batch", "tokens", CHANNELS]
        names = ["w", "u", "k", "v"]
    else:
        mixes, sides = int(operator[-1]), [CHANNELS, 1, 3, 3]
        values = [0.5] * (9 * CHANNELS)
        constants = [helper.make_tensor(f"w{n}", element, sides, values) for n in range(mixes)]
        inputs, outputs, attributes = ["x"], [f"y{n}" for n in range(mixes)], {"group": CHANNELS}
        shape = ["batch", CHANNELS, "height", "width"]
        result = ["batch", "height", "width", CHANNELS]
        names = ["x", *(tensor.name for tensor in constants)]
    node = helper.make_node(
        operator,
        names,
        outputs,
        domain="rwkv_edge",
        plugin_version="1",
        plugin_namespace="rwkv_edge",
        **attributes,
    )
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, element, shape) for name in inputs],
        [helper.make_tensor_value_info(name, element, result) for name in outputs],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("rwkv_edge", 1)]
    return onnx.ModelProto(ir_version=9, graph=graph, opset_import=opsets).SerializeToString()


def main() -> None:
    library, operator, dtype = sys.argv[1:]
    logger = trt.Logger(trt.Logger.WARNING)
    registry = trt.get_plugin_registry()
    if registry.load_library(library) is None:
        raise SystemExit("the plugin library was not loaded")
    builder = trt.Builder(logger)
    network = builder.create_network()
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model(operator, dtype)):
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise SystemExit("\n".join(errors))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        profile.set_shape(network.get_input(i).name, *(TOKENS if operator == "BiWKV" else MAPS))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise SystemExit("no engine was built")
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    plugins = [layer for layer in layers if layer.type == trt.LayerType.PLUGIN_V3]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    report = {
        "plugins": len(plugins),
        "outputs": [[str(o.dtype).rsplit(".", 1)[-1], list(o.shape)] for o in outputs],
        "bytes": engine.nbytes,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
