"""Build one BiWKV node with TensorRT-RTX and the plugin; run by test_bi_wkv_plugin.py.

    python tensorrt_rtx_build.py librwkv_edge_plugin.so float16

Prints, as JSON, the network's layers, the output's type and shape, and the size of the engine. A
process of its own, since the parser needs LD_LIBRARY_PATH set before it starts.
"""

from __future__ import annotations

import json
import sys

import onnx
import tensorrt_rtx as trt
from onnx import TensorProto, helper

CHANNELS = 288


def model(dtype: str) -> bytes:
    """One node, w and u as constants of the file, batch and tokens dynamic."""
    element = TensorProto.DataType.Value({"float32": "FLOAT"}.get(dtype, dtype.upper()))
    shape = ["batch", "tokens", CHANNELS]
    node = helper.make_node(
        "BiWKV",
        ["w", "u", "k", "v"],
        ["y"],
        domain="rwkv_edge",
        plugin_version="1",
        plugin_namespace="rwkv_edge",
    )
    constant = [0.01] * CHANNELS
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, element, shape) for name in "kv"],
        [helper.make_tensor_value_info("y", element, shape)],
        [helper.make_tensor(name, TensorProto.FLOAT, [CHANNELS], constant) for name in "wu"],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("rwkv_edge", 1)]
    return onnx.ModelProto(ir_version=9, graph=graph, opset_import=opsets).SerializeToString()


def main() -> None:
    library, dtype = sys.argv[1:]
    logger = trt.Logger(trt.Logger.WARNING)
    registry = trt.get_plugin_registry()
    if registry.load_library(library) is None:
        raise SystemExit("the plugin library was not loaded")
    builder = trt.Builder(logger)
    network = builder.create_network()
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model(dtype)):
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise SystemExit("\n".join(errors))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    profile = builder.create_optimization_profile()
    for name in "kv":
        profile.set_shape(name, (1, 1, CHANNELS), (1, 1024, CHANNELS), (4, 4096, CHANNELS))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise SystemExit("no engine was built")
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    plugins = [layer for layer in layers if layer.type == trt.LayerType.PLUGIN_V3]
    output = network.get_output(0)
    report = {
        "plugins": len(plugins),
        "dtype": str(output.dtype).rsplit(".", 1)[-1],
        "shape": list(output.shape),
        "bytes": engine.nbytes,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
