"""Exporting to ONNX: uint8 pictures in, probabilities out, our operators as one node each.

The input is `image` (N, H, W, 3) uint8 BGR, the output `probability` (N, classes, H, W) float32.
Normalisation and sigmoid (or softmax) are inside. The file is self-contained; what a runtime or a
person needs to know about it stands in its metadata properties.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from rwkv_edge import __version__
from rwkv_edge.config import NORMALISATION, RESEARCH_USE
from rwkv_edge.errors import ExportError, MissingDependencyError, UsageError
from rwkv_edge.export.check import TOLERANCE, largest_error
from rwkv_edge.export.function import bi_wkv_function, largest_reach, shift_mix_function
from rwkv_edge.files import atomic_path
from rwkv_edge.models import CheckpointInfo, Segmenter, fold
from rwkv_edge.operators import BI_WKV, DOMAIN, SHIFT_MIXES, VERSION
from rwkv_edge.preprocess import check_input_size

DEFAULT_OPSET, OLDEST_OPSET, NEWEST_OPSET = 18, 18, 23


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how far it is from Torch."""

    path: Path
    max_error: float
    """Largest difference in probability between ONNX Runtime and Torch on the check's pictures."""
    nodes: dict[str, int]
    """Nodes of the graph by operator."""


def export_onnx(
    network: nn.Module,
    info: CheckpointInfo,
    output: Path,
    *,
    imgsz: tuple[int, int],
    batch: int = 1,
    opset: int = DEFAULT_OPSET,
    folded: bool = True,
    weights_sha256: str = "",
) -> ExportReport:
    """Write `network` as ONNX, whole or not at all, and compare the file with Torch.

    Args:
        network: from `create_model`, in evaluation mode.
        info: of its checkpoint.
        output: file to write.
        imgsz: height and width of the input in pixels, multiples of 16.
        batch: pictures in one call.
        opset: version of the standard operators, 18 to 23.
        folded: rewrite the network for inference first (`models.fold`), which is exact.
        weights_sha256: hash of the checkpoint file, kept in the metadata.

    Raises:
        UsageError: an impossible size, batch or opset.
        ExportError: the exporter failed, or the file's output differs by more than 1e-4.
        OutputError: the file cannot be written.
    """
    check_input_size(*imgsz)
    if batch < 1:
        raise UsageError(f"--batch {batch}: at least 1")
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise UsageError(f"--opset {opset}: choose {OLDEST_OPSET} to {NEWEST_OPSET}")
    segmenter = Segmenter(network).eval()
    traced = fold(segmenter) if folded else segmenter
    model = _trace(traced, (batch, *imgsz, 3), opset)
    _add_functions(model, network, opset)
    _describe(model, info, imgsz, weights_sha256)
    with atomic_path(output) as temporary:
        onnx.save(model, temporary)
        onnx.checker.check_model(str(temporary), full_check=True)
        error = largest_error(temporary, segmenter)
        if not error <= TOLERANCE:
            raise ExportError(
                f"the exported model differs from Torch by {error:.2e} in probability "
                f"(at most {TOLERANCE:.0e} is allowed); nothing was written"
            )
    return ExportReport(output, error, dict(Counter(node.op_type for node in model.graph.node)))


def _trace(segmenter: Segmenter, shape: tuple[int, ...], opset: int) -> onnx.ModelProto:
    try:
        nodes = _our_nodes()
    except ImportError as error:
        raise MissingDependencyError("onnxscript", "export", "exporting") from error
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                segmenter,
                (torch.zeros(shape, dtype=torch.uint8),),
                dynamo=True,
                opset_version=opset,
                input_names=["image"],
                output_names=["probability"],
                custom_translation_table=nodes,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(f"Torch's exporter failed: {str(error).splitlines()[0]}") from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    del model.metadata_props[:]
    for value in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]  # the exporter's stack traces, with paths of this machine
    return model


def _our_nodes() -> dict[Any, Callable[..., Any]]:
    """Return the translations of our Torch ops: one node each, which names TensorRT's plugin."""
    bi_wkv = _operator(BI_WKV, {"w": "tensor(float)", "u": "tensor(float)", "k": "T", "v": "T"}, 1)
    mixes = {
        count: _operator(name, {"x": "T", **{f"weight{n}": "T" for n in range(count)}}, count)
        for count, name in SHIFT_MIXES.items()
    }
    plugin = {"plugin_version": VERSION, "plugin_namespace": DOMAIN}

    def translate_bi_wkv(w: Any, u: Any, k: Any, v: Any) -> Any:
        return bi_wkv(w, u, k, v, **plugin)

    def translate_shift_mix(x: Any, weights: Sequence[Any]) -> Any:
        return mixes[len(weights)](x, *weights, group=weights[0].shape[0], **plugin)

    return {
        torch.ops.rwkv_edge.bi_wkv.default: translate_bi_wkv,
        torch.ops.rwkv_edge.shift_mix.default: translate_shift_mix,
    }


def _operator(name: str, inputs: dict[str, str], outputs: int) -> Any:
    """Declare one of our operators to the exporter, with the type of each input."""
    from onnx.defs import OpSchema
    from onnxscript.values import Op, Opset

    attributes = {
        "group": OpSchema.AttrType.INT,
        "plugin_version": OpSchema.AttrType.STRING,
        "plugin_namespace": OpSchema.AttrType.STRING,
    }
    schema = OpSchema(
        name,
        DOMAIN,
        1,
        inputs=[OpSchema.FormalParameter(label, kind) for label, kind in inputs.items()],
        outputs=[OpSchema.FormalParameter(f"y{n}", "T") for n in range(outputs)],
        type_constraints=[("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "")],
        attributes=[
            OpSchema.Attribute(label, kind, "", required=False)
            for label, kind in attributes.items()
        ],
    )
    return Op(Opset(DOMAIN, 1), name, schema)


def _add_functions(model: onnx.ModelProto, network: nn.Module, opset: int) -> None:
    used = {node.op_type for node in model.graph.node}
    if BI_WKV in used:
        decays = [
            parameter.detach().numpy()
            for name, parameter in network.named_parameters()
            if name.endswith("spatial_decay")
        ]
        model.functions.append(bi_wkv_function(largest_reach(decays), opset))
    model.functions.extend(
        shift_mix_function(count, opset) for count, name in SHIFT_MIXES.items() if name in used
    )


def _describe(
    model: onnx.ModelProto, info: CheckpointInfo, imgsz: tuple[int, int], weights_sha256: str
) -> None:
    model.producer_name, model.producer_version = "rwkv-edge", __version__
    model.doc_string = f"RWKV-UNet for endoscopy; {RESEARCH_USE}"
    properties = {
        "variant": info.variant,
        "names": ",".join(info.names),
        "imgsz": f"{imgsz[0]}x{imgsz[1]}",
        "input": "uint8 NHWC BGR, letterboxed on black",
        "normalisation": f"inside; RGB mean {NORMALISATION.mean} std {NORMALISATION.std} of 0..1",
        "training": info.training,
        "rwkv_edge_version": __version__,
        "weights_sha256": weights_sha256,
        "use": RESEARCH_USE,
    }
    onnx.helper.set_model_props(model, properties)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about torchvision and its own deprecations off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
