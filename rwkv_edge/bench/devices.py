"""What Jetson modules can do at most, by power mode: the figures that `rwkv-edge estimate` uses.

Dense figures of the GPU alone (no sparsity, no DLA). GPU clock, rates and bandwidth: NVIDIA's
module data sheets (DS-11105-001 Orin Nano, DS-10712-001 Orin NX, DS-10662-001 AGX Orin, the Jetson
T5000 sheet) and, for Super mode, NVIDIA's announcement of JetPack 6.2. Rates outside the tensor
cores follow from the architecture: 128 lanes an SM, two operations (a fused multiply-add) a clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from rwkv_edge.bench.roofline import Efficiency, Rates, Shares

_LANES, _OPERATIONS = 128, 2
PRECISIONS = ("fp32", "fp16", "int8")

GPU_EFFICIENCY = Efficiency(
    poor=Shares(matrix=0.15, vector=0.25, bandwidth=0.5),
    good=Shares(matrix=0.5, vector=0.7, bandwidth=0.85),
)
"""What kernels usually reach of these figures. Experience with small pictures on GPUs, measured on
no Jetson: channels are few, so tensor cores are seldom full, and LPDDR5 gives a plain copy at most
some 85 % of its figure."""
_LAUNCH = (1.5e-6, 6e-6)
"""Seconds from the end of one kernel to the start of the next: in a CUDA graph, and in a stream."""


@dataclass(frozen=True)
class Mode:
    """A power mode of a module."""

    gpu_mhz: int
    fp16_tflops: float
    int8_tops: float | None
    """None: NVIDIA publishes no dense figure."""
    bandwidth_gbs: float


@dataclass(frozen=True)
class Device:
    """A Jetson module."""

    title: str
    sms: int
    modes: dict[str, Mode]
    """By name; the first is how the module is delivered."""


DEVICES = {
    "orin-nano-4gb": Device(
        "Jetson Orin Nano 4GB",
        4,
        {"normal": Mode(625, 5, 10, 34), "super": Mode(1020, 8.5, 17, 51)},
    ),
    "orin-nano-8gb": Device(
        "Jetson Orin Nano 8GB",
        8,
        {"normal": Mode(625, 10, 20, 68), "super": Mode(1020, 17, 33, 102)},
    ),
    "orin-nx-8gb": Device(
        "Jetson Orin NX 8GB",
        8,
        {"normal": Mode(765, 12.5, 25, 102), "super": Mode(1173, 19, 38, 102)},
    ),
    "orin-nx-16gb": Device(
        "Jetson Orin NX 16GB",
        8,
        {"normal": Mode(918, 15, 30, 102), "super": Mode(1173, 19, 38, 102)},
    ),
    "agx-orin-32gb": Device("Jetson AGX Orin 32GB", 14, {"normal": Mode(939, 27, 54, 204.8)}),
    "agx-orin-64gb": Device("Jetson AGX Orin 64GB", 16, {"normal": Mode(1300, 43, 85, 204.8)}),
    "thor-t5000": Device("Jetson Thor T5000", 20, {"normal": Mode(1386, 258, None, 273)}),
}


def device_rates(device: Device, mode: Mode, precision: str) -> Rates | None:
    """Return what a module can do in a precision; None where NVIDIA publishes no figure for it.

    fp32 is TF32, TensorRT's default: half the rate of fp16 on tensor cores.
    """
    dense = {"fp32": mode.fp16_tflops / 2, "fp16": mode.fp16_tflops, "int8": mode.int8_tops}
    tera = dense[precision]
    if tera is None:
        return None
    lanes = device.sms * _LANES * (1 if precision == "fp32" else 2)  # fp16 goes in pairs
    return Rates(
        matrix=tera * 1e12,
        vector=lanes * _OPERATIONS * mode.gpu_mhz * 1e6,
        bandwidth=mode.bandwidth_gbs * 1e9,
        launch=_LAUNCH,
    )
