"""ShiftMix against the reference in float64: the kernels' phases on the CPU, thread by thread, and
the kernels themselves where there is a GPU.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from rwkv_edge.ops import shift_mix_ref, shift_mix_weight
from tests.plugins.encoding import INVALID_VALUE, TYPES, UNIT, decode, encode

GUARD = 32
"""Elements on either side of a buffer, which keep its data aligned for pairs."""
MOST_MIXES = 3

SHAPES = [
    (1, 96, 12, 16),
    (2, 288, 8, 8),
    (1, 560, 4, 4),
    (1, 34, 10, 14),  # the last block is short both ways
    (3, 40, 5, 26),
    (1, 7, 6, 8),
    (2, 33, 9, 7),
    (1, 4, 1, 1),
    (1, 4, 1, 70),
    (1, 6, 70, 1),
    (2, 3, 4, 4),  # no quarter to shift
    (1, 2, 3, 2),
]


class Params(ctypes.Structure):
    """ShiftMixParams of shift_mix_kernel.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "channels", "height", "width")),
        ("mixes", ctypes.c_int32),
        ("type", ctypes.c_int32),
        ("x", ctypes.c_void_p),
        ("weight", ctypes.c_void_p * MOST_MIXES),
        ("y", ctypes.c_void_p * MOST_MIXES),
    )


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def library(request: pytest.FixtureRequest) -> ctypes.CDLL:
    """The phases looped over on the CPU, and the kernels on a GPU: every test runs with both."""
    loaded: ctypes.CDLL = request.getfixturevalue(f"shift_mix_{request.param}_library")
    assert loaded.shift_mix_params_bytes() == ctypes.sizeof(Params)
    return loaded


class Call:
    """Random inputs of one call, its buffers, and what must come out."""

    def __init__(
        self, library: ctypes.CDLL, shape: tuple[int, ...], mixes: int, dtype: str, shift: int = 0
    ) -> None:
        """`shift`: elements by which the map starts behind an aligned address."""
        self.library, self.dtype = library, dtype
        rng = np.random.default_rng([*shape, mixes])
        x = encode(rng.normal(size=shape), dtype)
        self.ratios = rng.normal(size=(mixes, shape[1]))
        weights = [
            encode(shift_mix_weight(torch.from_numpy(ratio)).numpy(), dtype)
            for ratio in self.ratios
        ]
        self.inputs = [_guarded(x, shift), *(_guarded(weight) for weight in weights)]
        batch, channels, height, width = shape
        blank = np.zeros((batch, height, width, channels), x.dtype)
        self.outputs = [_guarded(blank) for _ in range(mixes)]
        self.params = Params(*shape, mixes, TYPES[dtype], _data(self.inputs[0], shift))
        for n in range(mixes):
            self.params.weight[n] = _data(self.inputs[1 + n])
            self.params.y[n] = _data(self.outputs[n])
        self.x, self.weights = decode(x, dtype), [decode(weight, dtype) for weight in weights]
        self.shape = blank.shape

    def run(self) -> int:
        return int(self.library.run_shift_mix(ctypes.byref(self.params)))

    def result(self) -> list[npt.NDArray[np.float32]]:
        mixed = []
        for around in self.outputs:
            end = len(around) - GUARD
            assert (around[:GUARD] == 77).all(), "written before an output"
            assert (around[end:] == 77).all(), "written behind an output"
            mixed.append(decode(around[GUARD:end].reshape(self.shape), self.dtype))
        return mixed

    def error(self) -> float:
        """The largest difference, beyond the rounding of weights and result to their type."""
        x = torch.from_numpy(self.x)
        errors = []
        for y, ratio in zip(self.result(), self.ratios, strict=True):
            exact = shift_mix_ref(x, torch.from_numpy(ratio)).numpy()
            most = (1 + 2 * np.abs(ratio).max()) * np.abs(self.x).max(initial=0)
            errors.append(np.abs(y - exact).max(initial=0) - 2 * UNIT[self.dtype] * most)
        return float(max(errors))


def _guarded(value: npt.NDArray[Any], shift: int = 0) -> npt.NDArray[Any]:
    around = np.full(value.size + 2 * GUARD + shift, 77, value.dtype)
    start = GUARD + shift
    around[start : start + value.size] = value.ravel()
    return around


def _data(around: npt.NDArray[Any], shift: int = 0) -> int:
    return around[GUARD + shift :].ctypes.data


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("mixes", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_the_reference(
    library: ctypes.CDLL, shape: tuple[int, ...], mixes: int, dtype: str
) -> None:
    call = Call(library, shape, mixes, dtype)
    assert call.run() == 0
    assert call.error() < 1e-6


def test_taps_are_added_in_float32(library: ctypes.CDLL) -> None:
    """Of the rounded inputs the result is exact up to one rounding."""
    call = Call(library, (1, 32, 8, 8), 2, "float16")
    assert call.run() == 0
    for y, weight in zip(call.result(), call.weights, strict=True):
        x, taps = torch.from_numpy(call.x).double(), torch.from_numpy(weight).double()
        exact = torch.nn.functional.conv2d(x, taps, padding=1, groups=32).permute(0, 2, 3, 1)
        relative = np.abs(y - exact.numpy()) / np.maximum(np.abs(exact.numpy()), 2.0**-14)
        assert relative.max() < 1.01 * UNIT["float16"]


@pytest.mark.parametrize("dtype", TYPES)
def test_unaligned_pointers_take_the_scalar_path(library: ctypes.CDLL, dtype: str) -> None:
    call = Call(library, (2, 36, 6, 10), 3, dtype, shift=1)
    assert call.run() == 0
    assert call.error() < 1e-6


def test_nothing_to_do(library: ctypes.CDLL) -> None:
    for shape in ((0, 4, 3, 2), (2, 0, 3, 2), (2, 4, 0, 2), (2, 4, 3, 0)):
        assert Call(library, shape, 2, "float32").run() == 0


def test_bad_parameters_are_refused(library: ctypes.CDLL) -> None:
    call = Call(library, (1, 8, 4, 4), 2, "float32")
    bad = {"x": None, "type": 9, "mixes": 4, "height": -1, "batch": 2**17, "width": 2**40}
    for name, value in bad.items():
        good = getattr(call.params, name)
        setattr(call.params, name, value)
        assert call.run() == INVALID_VALUE, name
        setattr(call.params, name, good)
    call.params.mixes = 3  # the third has neither weight nor output
    assert call.run() == INVALID_VALUE


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_compute_sanitizer(shift_mix_gpu_library: ctypes.CDLL, tool: str) -> None:
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("no compute-sanitizer on this machine")
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", "--target-processes", "all"]
    command += [sys.executable, "-m", "pytest", "-q", "-x", __file__]
    command += ["-k", "gpu and test_against_the_reference"]
    tight = {**os.environ, "TIGHT_BUFFERS": "1"}
    done = subprocess.run(command, env=tight, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
