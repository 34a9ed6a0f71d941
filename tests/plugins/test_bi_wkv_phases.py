"""bi-WKV against the formula in float64: the kernels' phases on the CPU, thread by thread, and the
kernels themselves where there is a GPU.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.plugins.bi_wkv_reference import (
    CASES,
    LONG_CASES,
    Array,
    Case,
    backward,
    forward,
    golden_cases,
    random_case,
)
from tests.plugins.encoding import INVALID_VALUE, TYPES, UNIT, decode, encode


class Params(ctypes.Structure):
    """BiWkvParams of bi_wkv_kernel.h."""

    _fields_ = (
        [(name, ctypes.c_int64) for name in ("batch", "tokens", "channels")]
        + [("type", ctypes.c_int32)]
        + [(name, ctypes.c_void_p) for name in ("w", "u", "k", "v", "y")]
        + [(name, ctypes.c_void_p) for name in ("grad_y", "grad_k", "grad_v", "grad_w", "grad_u")]
        + [("workspace", ctypes.c_void_p), ("workspace_bytes", ctypes.c_size_t)]
    )


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def library(request: pytest.FixtureRequest) -> ctypes.CDLL:
    """The phases looped over on the CPU, and the kernels on a GPU: every test runs with both."""
    loaded: ctypes.CDLL = request.getfixturevalue(f"{request.param}_library")
    assert loaded.wkv_params_bytes() == ctypes.sizeof(Params)
    return loaded


def _rounded(case: Case, dtype: str) -> Case:
    """The case with keys and values that the type can hold."""
    k, v = (decode(encode(x, dtype), dtype) for x in (case.k, case.v))
    return Case(case.name, case.w, case.u, k, v)


class Call:
    """The buffers of one call. Guards around each catch writes outside."""

    def __init__(self, library: ctypes.CDLL, case: Case, dtype: str = "float32") -> None:
        self.library, self.dtype = library, dtype
        b, t, c = case.k.shape
        self.params = Params(batch=b, tokens=t, channels=c, type=TYPES[dtype])
        self.buffers: dict[str, npt.NDArray[Any]] = {}
        blank = np.zeros_like(encode(case.k, dtype))
        for name in ("k", "v"):
            self.put(name, encode(getattr(case, name), dtype))
        for name in ("y", "grad_y", "grad_k", "grad_v"):
            self.put(name, blank)
        for name in ("w", "u"):
            self.put(name, getattr(case, name))
            self.put(f"grad_{name}", np.zeros(c, np.float32))
        self.forward_bytes = library.wkv_forward_workspace(b, t, c)
        self.backward_bytes = library.wkv_backward_workspace(b, t, c)

    def put(self, name: str, value: npt.NDArray[Any]) -> None:
        guard = 32  # elements on either side: keeps the data aligned for pairs
        around = np.full(value.size + 2 * guard, 77, value.dtype)
        around[guard : guard + value.size] = value.ravel()
        self.buffers[name] = around
        setattr(self.params, name, around[guard:].ctypes.data)
        self.shapes = {**getattr(self, "shapes", {}), name: value.shape}

    def get(self, name: str) -> npt.NDArray[np.float32]:
        around, shape = self.buffers[name], self.shapes[name]
        size = int(np.prod(shape))
        assert (around[:32] == 77).all(), f"written before {name}"
        assert (around[32 + size :] == 77).all(), f"written behind {name}"
        data = around[32 : 32 + size].reshape(shape)
        return decode(data, self.dtype) if data.dtype != np.float32 else data

    def run(self, function: str, workspace_bytes: int) -> int:
        if workspace_bytes:
            self.put("workspace", np.full(workspace_bytes // 4, np.nan, np.float32))
        self.params.workspace_bytes = workspace_bytes
        return int(getattr(self.library, function)(ctypes.byref(self.params)))

    def forward(self) -> npt.NDArray[np.float32]:
        assert self.run("wkv_forward", self.forward_bytes) == 0
        return self.get("y")

    def backward(self, grad_y: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        self.put("grad_y", encode(grad_y, self.dtype))
        assert self.run("wkv_backward", self.backward_bytes) == 0
        return {name: self.get(f"grad_{name}") for name in "wukv"}


def _tolerance(dtype: str, exact: Array) -> float:
    """1e-5, and the rounding of the result to its type."""
    return 1e-5 + 1.01 * UNIT[dtype] * float(np.abs(exact).max())


@pytest.mark.parametrize(
    ("case", "exact"), [pytest.param(*pair, id=pair[0].name) for pair in golden_cases()]
)
def test_golden_forward(library: ctypes.CDLL, case: Case, exact: Array) -> None:
    y = Call(library, case).forward()
    assert np.abs(y - exact).max() < 1e-5


def _typed(cases: list[Case]) -> list[Any]:
    """Every case in every type; the long ones, slow to check, in float32."""
    typed = [pytest.param(case, dtype, id=f"{case}-{dtype}") for case in cases for dtype in TYPES]
    return typed + [pytest.param(case, "float32", id=f"{case}") for case in LONG_CASES]


@pytest.mark.parametrize(("case", "dtype"), _typed(CASES))
def test_forward(library: ctypes.CDLL, case: Case, dtype: str) -> None:
    case = _rounded(case, dtype)
    exact = forward(case)
    y = Call(library, case, dtype).forward()
    assert np.abs(y - exact).max() < _tolerance(dtype, exact)


@pytest.mark.parametrize(("case", "dtype"), _typed([*CASES, *(case for case, _ in golden_cases())]))
def test_backward(library: ctypes.CDLL, case: Case, dtype: str) -> None:
    case = _rounded(case, dtype)
    rng = np.random.default_rng(case.k.shape)
    grad_y = decode(encode(rng.normal(0, 1, case.k.shape), dtype), dtype)
    got, exact = Call(library, case, dtype).backward(grad_y), backward(case, grad_y)
    for name in "wukv":
        want = getattr(exact, name)
        size = max(1.0, exact.w_terms if name == "w" else float(np.abs(want).max()))
        rounding = UNIT[dtype] if name in "kv" else 0.0
        assert np.abs(got[name] - want).max() <= (5e-5 + rounding) * size, name


def test_reference_gradient_is_the_slope() -> None:
    case, eps = random_case(1, 5, 2), 1e-3
    grad_y = np.random.default_rng(0).normal(0, 1, case.k.shape).astype(np.float32)
    exact = backward(case, grad_y)
    for name in "wukv":
        value = getattr(case, name)
        for index in np.ndindex(value.shape):
            sides = []
            for sign in (1, -1):
                moved = value.astype(np.float64).copy()
                moved[index] += sign * eps
                parts = {part: getattr(case, part) for part in "wukv"} | {name: moved}
                sides.append((forward(Case("moved", **parts)) * grad_y).sum())
            slope = (sides[0] - sides[1]) / (2 * eps)
            assert slope == pytest.approx(getattr(exact, name)[index], abs=1e-5)


def test_unaligned_pointers_take_the_scalar_path(library: ctypes.CDLL) -> None:
    case = random_case(1, 100, 6)
    call = Call(library, case, "float16")
    aligned = call.forward().copy()
    for name in ("k", "v"):
        around = call.buffers[name]
        around[31:-1] = around[32:].copy()
        setattr(call.params, name, around[31:].ctypes.data)
    assert call.run("wkv_forward", call.forward_bytes) == 0
    assert np.abs(call.get("y") - aligned).max() < 1e-3


def test_nothing_to_do(library: ctypes.CDLL) -> None:
    for shape in ((0, 4, 3), (2, 0, 3), (2, 4, 0)):
        k = np.zeros(shape, np.float32)
        w = np.zeros(shape[2], np.float32)
        call = Call(library, Case("empty", w, w, k, k))
        call.buffers["grad_w"][32 : 32 + shape[2]] = 5
        assert call.run("wkv_forward", call.forward_bytes) == 0
        assert not call.backward(k)["w"].any()


def test_bad_parameters_are_refused(library: ctypes.CDLL) -> None:
    call = Call(library, random_case(1, 1025, 4))
    assert call.run("wkv_forward", call.forward_bytes - 4) == INVALID_VALUE
    assert call.run("wkv_backward", call.backward_bytes - 4) == INVALID_VALUE
    for name, value in (("k", None), ("y", None), ("type", 9), ("tokens", -1), ("batch", 2**40)):
        good = getattr(call.params, name)
        setattr(call.params, name, value)
        assert call.run("wkv_forward", call.forward_bytes) == INVALID_VALUE, name
        setattr(call.params, name, good)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bad_number_stays_in_its_channel(library: ctypes.CDLL, value: float) -> None:
    case = random_case(1, 300, 6)
    exact = forward(case)
    for name in "wukv":
        parts = {part: getattr(case, part).copy() for part in "wukv"}
        parts[name][..., 2] = value
        y = Call(library, Case("bad", **parts)).forward()
        others = [0, 1, 3, 4, 5]
        assert np.abs(y[..., others] - exact[..., others]).max() < 1e-5
        if np.isnan(value):
            assert np.isnan(y[..., 2]).any(), name


def test_workspace_grows_with_every_size(library: ctypes.CDLL) -> None:
    for function in (library.wkv_forward_workspace, library.wkv_backward_workspace):
        small, *large = (
            function(*sizes)
            for sizes in ((1, 1024, 288), (2, 1024, 288), (1, 1025, 288), (1, 1024, 289))
        )
        assert all(size > small for size in large)
    assert library.wkv_forward_workspace(8, 128, 560) == 0


SANITIZED = "gpu and (long or ((T97 or ramp) and float32))"
"""Few cases, each of which takes long there; the long ones take every kernel that there is."""


def test_long_cases_are_sanitized() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", __file__, "-k", SANITIZED]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in ("long-odd", "long-even", "ramp", "T97"):
        for test in ("forward", "backward"):
            assert re.search(rf"test_{test}\[gpu-\S*{name}", found), name
    assert "[cpu-" not in found
    assert "float16" not in found


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_compute_sanitizer(gpu_library: ctypes.CDLL, tool: str) -> None:
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("no compute-sanitizer on this machine")
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", "--target-processes", "all"]
    command += [sys.executable, "-m", "pytest", "-q", "-x", __file__, "-k", SANITIZED]
    tight = {**os.environ, "TIGHT_BUFFERS": "1"}
    done = subprocess.run(command, env=tight, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
