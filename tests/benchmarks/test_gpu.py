"""The scripts for CUDA machines, in a dry run: they work, say that it is one, and write nothing."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import EventList, FunctionEvent

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / "benchmarks" / "gpu"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("script", "options", "shown"),
    [
        ("kernels.py", [], "| 2x64x24 | fp32 | backward | ours |"),
        ("model.py", ["--variants", "tiny"], "| fp16 channels-last |"),
        ("profile_step.py", ["--variant", "unet"], "host stalls in a plain step: 0"),
        (
            "train_all.py",
            ["--variants", "unet", "--minutes", "0.02"],
            "| --amp --device cpu |",
        ),
        ("verify.py", [], "'failed': 0, 'skipped': 0"),
    ],
)
def test_dry_run(tmp_path: Path, script: str, options: list[str], shown: str) -> None:
    done = run(sys.executable, GPU / script, "--dry-run", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("DRY RUN on the CPU: every time below is meaningless")
    assert shown in done.stdout
    assert "is not written" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(GPU))
    return importlib.import_module


@pytest.fixture
def verify(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("verify")


def test_cold_calls_do_not_write_to_the_same_place(load: Callable[[str], ModuleType]) -> None:
    kernels, device = load("kernels"), torch.device("cpu")
    sets = [kernels.make_inputs((1, 4, 2), torch.float32, device) for _ in range(3)]
    results: list[weakref.ref[torch.Tensor]] = []
    alive = []

    def form(w: torch.Tensor, u: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        y = torch.empty_like(k)
        results.append(weakref.ref(y))
        alive.append(sum(result() is not None for result in results))
        return y

    kernels.time_form("forward", form, sets, device, rounds=1)
    assert alive == [1, 2, 3]


def test_a_kernel_is_not_counted_again_beside_its_operator(
    load: Callable[[str], ModuleType],
) -> None:
    def event(name: str, kind: DeviceType) -> FunctionEvent:
        return FunctionEvent(0, name, 0, 0, 10, stack=[], device_type=kind, use_device="cuda")

    slow, fast = (event(name, DeviceType.CPU) for name in ("aten::conv2d", "aten::add"))
    slow.append_kernel("implicit_gemm", 0, 30)
    fast.append_kernel("elementwise", 0, 10)
    kernels = [event(name, DeviceType.CUDA) for name in ("implicit_gemm", "elementwise")]
    events = EventList([fast, slow, *kernels], use_device="cuda")
    events._build_tree()
    rows = load("model").heaviest(events.key_averages(), "self_device_time_total")
    shares = {row["operator"]: row["share"] for row in rows}
    assert shares == {"aten::conv2d": 0.75, "aten::add": 0.25}


def test_verify_runs_all_that_is_marked_gpu(verify: ModuleType) -> None:
    folder, *selected = verify.TESTS
    assert selected == ["-m", "gpu"]
    for path in (ROOT / "tests").rglob("test_*.py"):
        if "pytest.mark.gpu" in path.read_text():
            assert path.is_relative_to(ROOT / folder)


SKIPPING = """
import pytest

@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_engines_on_the_gpu(name):
    pytest.skip("tensorrt is not installed")

def test_kernels():
    pytest.skip("tensorrt is not installed")

def test_sums():
    pass
"""


def test_verify_lets_tensorrt_skip_alone(
    verify: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = tmp_path / "test_skipping.py"
    tests.write_text(SKIPPING)
    status, counts = verify.run_tests([str(tests)], tmp_path / "junit.xml")
    assert status == 0
    assert counts == {"passed": 1, "failed": 0, "skipped": 2, "left out": 1}
    line = "left out: test_engines_on_the_gpu[tensorrt]: tensorrt is not installed"
    assert capsys.readouterr().out.splitlines() == [line]


@pytest.mark.parametrize("script", ["kernels.py", "model.py", "profile_step.py", "train_all.py"])
def test_without_a_gpu_nothing_is_timed(tmp_path: Path, script: str) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, GPU / script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **hidden},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "error: Torch sees no CUDA GPU here; --dry-run tries the script on the CPU"
    )
    assert list(tmp_path.iterdir()) == []


def test_run_all_takes_its_arguments_apart(tmp_path: Path) -> None:
    """The order and the arguments, with an interpreter that only says what it was asked."""
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$(basename "$1") $(shift; echo "$@")"\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(fake)}
    command = [GPU / "run_all.sh", "--data", "d", "--minutes", "3", "--output", "o"]
    done = subprocess.run(
        [*command, "--allow-missing"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "verify.py --output o --allow-missing",
        "kernels.py --output o",
        "model.py --output o",
        "train_all.py --output o --data d --minutes 3",
    ]
    for arguments in (["--output", "o"], ["--what"]):
        done = subprocess.run(
            [GPU / "run_all.sh", *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stdout == ""


@pytest.mark.slow
def test_the_plain_kernel_compiles(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on this machine: the plain kernel is not compiled")
    library = tmp_path / "plain.so"
    source = ROOT / "benchmarks" / "plain_two_scans.cu"
    command = [nvcc, "-std=c++17", "-arch=sm_87", "-shared", "-Xcompiler=-fPIC", "-o", library]
    subprocess.run([*command, source], check=True)
    symbols = subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True)
    assert {"plain_fp16", "plain_fp32"} <= set(symbols.stdout.split())
