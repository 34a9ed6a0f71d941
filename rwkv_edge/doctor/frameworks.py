"""ONNX Runtime with the providers that really work, OpenVINO, and Torch."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rwkv_edge.doctor.finding import Finding

_CPU = "CPUExecutionProvider"
_REMOTE = "AzureExecutionProvider"  # sends the picture away; rwkv-edge never asks for it

# One Identity of uint8 from 'x' to 'y', opset 13. No provider needs time for it (TensorRT's would
# build an engine of anything that it knows), and as bytes it does not need the package onnx.
IDENTITY_MODEL = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x02'
    b"\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x02\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def onnxruntime() -> Iterator[Finding]:
    """Make a session on each provider, because a missing one is replaced by the CPU in silence."""
    import numpy as np
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    offered = [name for name in ort.get_available_providers() if name != _REMOTE]
    yield Finding("ONNX Runtime", "ok", f"{ort.__version__}, offers {', '.join(offered)}")
    for name in sorted(offered, key=lambda name: name != _CPU):
        try:
            session = ort.InferenceSession(IDENTITY_MODEL, providers=[name])
            given = session.get_providers()
            session.run(None, {"x": np.zeros(1, np.uint8)})
        except Exception as error:  # onnxruntime's own types derive from Exception alone
            given, reason = [], str(error).splitlines()[0]
        else:
            reason = f"cannot be loaded, {given[0]} runs instead"
        if name in given:
            yield Finding(name, "ok", "works")
        elif name == _CPU:
            yield Finding(name, "problem", reason, "pip install --force-reinstall onnxruntime")
        else:
            yield _unusable(name, reason)


def _unusable(name: str, reason: str) -> Finding:
    from rwkv_edge.runtime.machine import find_gpu

    if find_gpu() is None:
        return Finding(name, "ok", f"{reason}: there is no CUDA GPU")
    mend = "install the CUDA and cuDNN that this ONNX Runtime was built for, or use TensorRT"
    return Finding(name, "warning", reason, mend)


def openvino() -> Iterator[Finding]:
    """Ask OpenVINO for the precisions in which this processor computes."""
    if importlib.util.find_spec("openvino") is None:
        reason = "not installed: optional, often faster than ONNX Runtime on Intel and AMD"
        yield Finding("OpenVINO", "ok", reason, "pip install 'rwkv-edge[openvino]'")
        return
    mend = "pip install --force-reinstall openvino"
    try:
        from openvino import Core, __version__

        offered = Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except (ImportError, RuntimeError) as error:
        yield Finding("OpenVINO", "warning", str(error).splitlines()[0], mend)
        return
    known = [name for name in ("FP32", "BF16", "FP16") if name in offered]
    release = __version__.split("-")[0]
    yield Finding("OpenVINO", "ok", f"{release}, computes in {', '.join(known)} on this CPU")


def torch() -> Iterator[Finding]:
    """Read Torch's version without importing it, which takes seconds."""
    try:
        release = version("torch")
    except PackageNotFoundError:
        reason = "not installed: training and export need it, running does not"
        yield Finding("Torch", "ok", reason, "pip install 'rwkv-edge[export,train]'")
        return
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        reason = f"{release} is registered, but its files are gone"
        yield Finding("Torch", "problem", reason, "pip install --force-reinstall torch")
        return
    text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    found = re.search(r"^cuda\b[^=]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    built = f"built for CUDA {found[1]}" if found else "built for the CPU"
    yield Finding("Torch", "ok", f"{release}, {built}")
