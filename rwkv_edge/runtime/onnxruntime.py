"""ONNX Runtime: the runtime of every machine, with or without a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime as ort

from rwkv_edge.errors import BackendError
from rwkv_edge.preprocess import FloatArray, UInt8Array
from rwkv_edge.runtime.base import ModelInfo, Runner, run_in_batches

PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeRunner(Runner):
    """A file of `rwkv-edge export` in ONNX Runtime on the CPU.

    Args:
        path: ONNX file.
        threads: of one inference; default: one for each core this process may use.

    Raises:
        BackendError: the file is missing, damaged, or not one of ours.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        if not path.is_file():
            raise BackendError(f"{path}: no such file")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        options.log_severity_level = 3
        # threads that spin after a call would take the cores from decoding, drawing and encoding
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = ort.InferenceSession(path, options, providers=[PROVIDER])
        except Exception as error:  # onnxruntime's own types derive from Exception alone
            reason = str(error).splitlines()[0]
            raise BackendError(f"{path}: ONNX Runtime cannot load it ({reason})") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if (
            [i.name for i in inputs] != ["image"]
            or inputs[0].type != "tensor(uint8)"
            or len(inputs[0].shape) != 4
            or not all(isinstance(side, int) for side in inputs[0].shape)
            or [o.name for o in outputs] != ["probability"]
        ):
            raise BackendError(f"{path}: not a model of rwkv-edge export (uint8 image in)")
        self._batch: int = inputs[0].shape[0]
        properties = self._session.get_modelmeta().custom_metadata_map
        size = (inputs[0].shape[1], inputs[0].shape[2])
        self.info = ModelInfo.from_properties(properties, size, str(path))
        self.backend = f"onnxruntime {ort.__version__} on {self._session.get_providers()[0]}"

    def __call__(self, image: UInt8Array) -> FloatArray:
        """See `Runner`; any N, in calls of the batch that the file was exported with."""
        return run_in_batches(image, self._batch, self._run)

    def _run(self, image: UInt8Array) -> FloatArray:
        try:
            probability: FloatArray = self._session.run(None, {"image": image})[0]
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise BackendError(f"ONNX Runtime failed: {reason}") from error
        return probability
