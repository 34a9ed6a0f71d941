"""OpenVINO on the CPU: bfloat16 where the machine has instructions for it, else float32."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rwkv_edge.errors import BackendError, MissingDependencyError, UsageError
from rwkv_edge.preprocess import FloatArray, UInt8Array
from rwkv_edge.runtime.base import ModelInfo, Runner, run_in_batches

if TYPE_CHECKING:
    from onnx import ModelProto

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
"""Ours, and OpenVINO's names."""
_CPU_FLAGS, _BF16_FLAGS = Path("/proc/cpuinfo"), frozenset({"amx_bf16", "avx512_bf16"})


class OpenVinoRunner(Runner):
    """A file of `rwkv-edge export` in OpenVINO on the CPU.

    Args:
        path: ONNX file.
        threads: of one inference; default: one for each core this process may use.
        precision: 'fp32' or 'bf16'; default: bf16 where the processor multiplies it, else fp32.

    Raises:
        BackendError: the file is missing, damaged, or not one of ours; no bfloat16 here.
        MissingDependencyError: OpenVINO or onnx is not installed.
    """

    def __init__(
        self, path: Path, threads: int | None = None, precision: str | None = None
    ) -> None:
        if precision not in (None, *PRECISIONS):
            raise UsageError(f"OpenVINO precision {precision}: choose {' or '.join(PRECISIONS)}")
        if not path.is_file():
            raise BackendError(f"{path}: no such file")
        for package in ("openvino", "onnx"):
            if importlib.util.find_spec(package) is None:
                raise MissingDependencyError(package, "openvino", "OpenVINO")
        precision = precision or ("bf16" if has_bfloat16() else "fp32")
        model = _read(path)
        self._request, version = _compile(
            path, model, threads or len(os.sched_getaffinity(0)), precision
        )
        shape = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
        self._batch: int = shape[0]
        told = {entry.key: entry.value for entry in model.metadata_props}
        self.info = ModelInfo.from_properties(told, (shape[1], shape[2]), str(path))
        self.backend = f"openvino {version} on CPU, {precision}"

    def __call__(self, image: UInt8Array) -> FloatArray:
        """See `Runner`; any N, in calls of the batch that the file was exported with."""
        return run_in_batches(image, self._batch, self._run)

    def _run(self, image: UInt8Array) -> FloatArray:
        try:
            result = self._request.infer({0: image})[0]
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed: {_last_line(error)}") from error
        return np.array(result, np.float32)  # a copy: the request reuses its memory


def has_bfloat16(cpuinfo: Path = _CPU_FLAGS) -> bool:
    """Tell whether the processor multiplies bfloat16 in hardware (x86: AMX, or AVX-512's BF16)."""
    try:
        return not _BF16_FLAGS.isdisjoint(cpuinfo.read_text(encoding="utf-8").split())
    except OSError:
        return False


def _read(path: Path) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise BackendError(f"{path}: not an ONNX file ({_last_line(error)})") from error
    inputs, outputs = model.graph.input, model.graph.output
    image = inputs[0].type.tensor_type if len(inputs) == 1 else None
    if (
        image is None
        or inputs[0].name != "image"
        or image.elem_type != onnx.TensorProto.UINT8
        or len(image.shape.dim) != 4
        or not all(side.dim_value > 0 for side in image.shape.dim)
        or [output.name for output in outputs] != ["probability"]
    ):
        raise BackendError(f"{path}: not a model of rwkv-edge export (uint8 image in)")
    return model


def _compile(path: Path, model: ModelProto, threads: int, precision: str) -> tuple[Any, str]:
    import openvino

    from rwkv_edge.runtime.openvino_function import for_openvino

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BackendError("this processor has no bfloat16; use --backend openvino-fp32")
    settings = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    try:
        network = core.read_model(for_openvino(model).SerializeToString())
        compiled = core.compile_model(network, "CPU", settings)
    except (RuntimeError, ValueError) as error:
        raise BackendError(f"{path}: OpenVINO cannot load it ({_last_line(error)})") from error
    version = openvino.__version__.split("-")[0]
    return compiled.create_infer_request(), version


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
