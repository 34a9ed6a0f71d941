"""The CUDA form of the op: found, compiled and linked here, and run where there is a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rwkv_edge import compiler
from rwkv_edge.errors import BackendError
from rwkv_edge.ops import bi_wkv, bi_wkv_ref, extension
from rwkv_edge.ops.bi_wkv import torch_backward, torch_forward
from tests.ops.test_bi_wkv import TOLERANCE, make_inputs


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def cuda_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Torch that says it was built with the CUDA release of the nvcc at hand."""
    nvcc = compiler.find_tool("nvcc")
    version = compiler.compiler_version(nvcc) if nvcc else "13.0"
    monkeypatch.setattr(torch.version, "cuda", version)


def test_the_library_has_a_place_of_its_own(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = extension.library_path(("90",))
    assert first == extension.library_path(("90",))
    others = {extension.library_path(("87",)), extension.library_path(("87", "90"))}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.0")
        others.add(extension.library_path(("90",)))
    with monkeypatch.context() as patch:
        patch.setattr(torch.version, "cuda", "1.0")
        others.add(extension.library_path(("90",)))
    with monkeypatch.context() as patch:
        patch.setattr(extension, "sources_sha256", lambda: "changed")
        others.add(extension.library_path(("90",)))
    assert len({first, *others}) == 6
    assert first.is_relative_to(empty_cache)
    assert (empty_cache / "rwkv-edge").stat().st_mode & 0o777 == 0o700


def test_code_that_others_can_change_is_not_loaded(empty_cache: Path) -> None:
    (empty_cache / "rwkv-edge").mkdir()
    (empty_cache / "rwkv-edge").chmod(0o777)
    with pytest.raises(BackendError, match="others can write into it"):
        extension.library_path(("90",))


def test_a_torch_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(BackendError, match="built without CUDA; install one"):
        extension.build_extension(("90",))


def test_no_gpu_to_compile_for(cuda_torch: None) -> None:
    with pytest.raises(BackendError, match="sees no CUDA GPU"):
        extension.build_extension(())


@pytest.mark.parametrize(
    ("tool", "remedy"), [("nvcc", "let CUDA_HOME name its folder"), ("g++", "apt install g\\+\\+")]
)
def test_a_missing_compiler(
    cuda_torch: None, monkeypatch: pytest.MonkeyPatch, tool: str, remedy: str
) -> None:
    monkeypatch.setattr(extension, "find_tool", lambda name: None if name == tool else "/bin/true")
    monkeypatch.setattr(extension, "compiler_version", lambda nvcc: str(torch.version.cuda))
    with pytest.raises(BackendError, match=f"was not found; .*{remedy}"):
        extension.build_extension(("90",))


def test_an_nvcc_of_another_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "11.8")
    monkeypatch.setattr(extension, "find_tool", lambda name: f"/opt/{name}")
    monkeypatch.setattr(extension, "compiler_version", lambda nvcc: "13.0")
    with pytest.raises(BackendError, match=r"is of CUDA 13\.0, and Torch was built with 11\.8"):
        extension.build_extension(("90",))


def test_a_compiler_that_fails(
    cuda_torch: None, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvcc = empty_cache / "nvcc"
    nvcc.write_text('#!/bin/sh\necho "x.cu(7): error: no" >&2\nexit 1\n')
    nvcc.chmod(0o755)
    monkeypatch.setattr(extension, "_find_nvcc", lambda cuda: str(nvcc))
    with pytest.raises(BackendError, match=r"do not compile: x\.cu\(7\)") as caught:
        extension.build_extension(("90",))
    assert "\n" not in str(caught.value)
    assert not list(empty_cache.rglob("*.so"))


def test_a_library_that_cannot_be_loaded(tmp_path: Path) -> None:
    library = tmp_path / "librwkv_edge_torch.so"
    library.write_bytes(b"not a library")
    with pytest.raises(BackendError, match="delete its folder"):
        extension._load(library)


def test_without_kernels_it_warns_once(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(extension, "present_architectures", lambda: ("90",))
    extension.why_not.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert (
            extension.describe(torch.device("cuda")) == "Torch on cuda, without the fused kernels"
        )
        assert "built without CUDA" in str(extension.why_not())
    extension.why_not.cache_clear()
    assert len(caught) == 1
    assert "several times slower" in str(caught[0].message)
    assert extension.describe(torch.device("cpu")) == "Torch on cpu"


@pytest.mark.parametrize("reach", [5.0, 300.0, -5000.0])
def test_a_batch_at_once_is_the_samples_one_by_one(
    reach: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU without the kernels does, in each of the three ways inside."""
    inputs = make_inputs(33, 5, batch=3, reach=reach)
    grad = torch.randn(inputs[2].shape, generator=torch.Generator().manual_seed(0))
    expected = torch_forward(*inputs), torch_backward(grad, *inputs)
    monkeypatch.setattr(sys.modules["rwkv_edge.ops.bi_wkv"], "_parts", lambda k: [slice(None)])
    torch.testing.assert_close(torch_forward(*inputs), expected[0])
    torch.testing.assert_close(torch_backward(grad, *inputs), expected[1], rtol=1e-4, atol=1e-4)


LINK = """
import ctypes, sys, torch
for path in sys.argv[2:]:
    ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
torch.ops.load_library(sys.argv[1])
for name in ("bi_wkv_cuda", "bi_wkv_cuda_backward"):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"rwkv_edge::{name}", "CUDA"), name
    print(getattr(torch.ops.rwkv_edge, name).default._schema)
"""


@pytest.mark.slow
def test_compiles_links_and_registers(
    cuda_torch: None, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very command, against this Torch. Where it is a CPU build, what it lacks is stood in for:
    one generated header, and a c10_cuda of empty functions."""
    nvcc = compiler.find_tool("nvcc")
    if nvcc is None or compiler.find_tool("g++") is None:
        pytest.skip("no nvcc or no g++ on this machine: the kernels are not compiled for Torch")
    torch_folder = Path(torch.__file__).parent
    stand_in = empty_cache / "stand-in"
    c10_cuda = torch_folder / "lib" / "libc10_cuda.so"
    if not c10_cuda.is_file():
        header = stand_in / "c10" / "cuda" / "impl" / "cuda_cmake_macros.h"
        header.parent.mkdir(parents=True)
        header.write_text("#define C10_CUDA_BUILD_SHARED_LIBS\n")
        c10_cuda = stand_in / "libc10_cuda.so"
        subprocess.run(["g++", "-shared", "-xc++", "/dev/null", "-o", c10_cuda], check=True)
        monkeypatch.setenv("CPATH", str(stand_in))
        monkeypatch.setenv("LIBRARY_PATH", str(stand_in))
    library = extension.build_extension(("90",))
    assert library.stat().st_size > 100_000
    if c10_cuda.is_relative_to(stand_in):
        missing = subprocess.run(
            ["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True
        )
        names = [n for n in missing.stdout.split() if "c104cuda" in n]
        source = stand_in / "functions.c"
        source.write_text("".join(f"void {name}(void) {{}}\n" for name in names))
        subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", c10_cuda], check=True)
    runtime = next(Path(nvcc).resolve().parents[1].glob("lib*/libcudart.so"), None)
    runtime = runtime or next(Path("/usr/local/cuda").glob("lib*/libcudart.so"))
    done = subprocess.run(
        [sys.executable, "-c", LINK, library, runtime, c10_cuda],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LD_LIBRARY_PATH": str(runtime.parent)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "rwkv_edge::bi_wkv_cuda(Tensor w, Tensor u, Tensor k, Tensor v) -> Tensor",
        "rwkv_edge::bi_wkv_cuda_backward(Tensor w, Tensor u, Tensor k, Tensor v, Tensor grad_y) -> "
        "(Tensor, Tensor, Tensor, Tensor)",
    ]


# From here on: on a GPU.


def test_a_torch_that_sees_no_gpu_is_skipped(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(pytest.skip.Exception, match="needs a Torch that sees the CUDA GPU"):
        request.getfixturevalue("kernels")


@pytest.fixture
def kernels(torch_gpu: None) -> None:
    reason = extension.why_not()
    assert reason is None, reason


def on_gpu(inputs: list[Tensor]) -> list[Tensor]:
    return [x.cuda() for x in inputs]


def relative_error(ours: Tensor, exact: Tensor) -> float:
    """Of the largest entry, and of one where all are smaller."""
    return float((ours.double().cpu() - exact.cpu()).abs().max() / exact.abs().max().clamp(min=1))


SIZES = [(1, 1), (2, 3), (97, 7), (256, 33), (1025, 6), (1024, 288), (256, 560), (4096, 17)]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize(("tokens", "channels"), [*SIZES, (16384, 5)])
def test_gpu_forward(kernels: None, dtype: torch.dtype, tokens: int, channels: int) -> None:
    batch = 1 if tokens * channels > 50_000 else 3
    inputs = make_inputs(tokens, channels, batch=batch, dtype=dtype)
    y = bi_wkv(*on_gpu(inputs))
    assert y.dtype == dtype
    assert relative_error(y, bi_wkv_ref(*on_gpu(inputs))) < TOLERANCE[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("reach", [3.0, 300.0, -300.0])
@pytest.mark.parametrize(("tokens", "channels"), [*SIZES[:5], (4096, 3)])
def test_gpu_gradients(
    kernels: None, dtype: torch.dtype, reach: float, tokens: int, channels: int
) -> None:
    inputs = on_gpu(make_inputs(tokens, channels, reach=reach, dtype=dtype))
    leaves = [x.requires_grad_() for x in inputs]
    grad = torch.randn(inputs[2].shape, generator=torch.Generator().manual_seed(0)).to(dtype).cuda()
    ours = torch.autograd.grad(bi_wkv(*leaves), leaves, grad)
    exact = torch.autograd.grad(bi_wkv_ref(*leaves), leaves, grad.double())
    for name, a, b in zip("wukv", ours, exact, strict=True):
        # those of w and u are float32 sums over the tokens of terms of either sign
        bound = 5e-5 * tokens**0.5 if name in "wu" else max(5e-5, TOLERANCE[dtype])
        assert relative_error(a, b) < bound, name


@pytest.mark.gpu
def test_gpu_strided_inputs_and_half_rows(kernels: None) -> None:
    w, u, k, v = on_gpu(make_inputs(30, 8, dtype=torch.float16))
    strided = [torch.stack((k, k), -1)[..., 0], v.mT.contiguous().mT]
    assert not any(x.is_contiguous() for x in strided)
    expected = bi_wkv(w, u, k, v)
    assert torch.equal(bi_wkv(w, u, *strided), expected)
    assert relative_error(bi_wkv(w.half(), u.half(), k, v), expected.double()) < 1e-2


@pytest.mark.gpu
def test_gpu_same_bits_every_time(kernels: None) -> None:
    leaves = [x.requires_grad_() for x in on_gpu(make_inputs(1025, 33))]
    runs = []
    for _ in range(3):
        y = bi_wkv(*leaves)
        runs.append((y, *torch.autograd.grad(y.square().sum(), leaves)))
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


@pytest.mark.gpu
def test_gpu_float64_runs_in_torch(kernels: None) -> None:
    inputs = [x.requires_grad_() for x in on_gpu(make_inputs(9, 3, dtype=torch.float64))]
    assert torch.autograd.gradcheck(bi_wkv, inputs)


@pytest.mark.gpu
def test_gpu_autocast_hands_over_bfloat16(kernels: None) -> None:
    w, u, k, v = on_gpu(make_inputs(64, 16))
    linear = torch.nn.Linear(16, 16, bias=False).cuda()
    w.requires_grad_()
    with torch.autocast("cuda", torch.bfloat16):
        y = bi_wkv(w, u, linear(k), linear(v))
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert linear.weight.grad is not None
    assert w.grad is not None
    assert w.grad.dtype == torch.float32


@pytest.mark.gpu
def test_gpu_never_waits_for_the_device(kernels: None) -> None:
    leaves = [x.requires_grad_() for x in on_gpu(make_inputs(1025, 16))]
    bi_wkv(*leaves).sum().backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        bi_wkv(*leaves).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_gpu_on_another_stream(kernels: None) -> None:
    """The inputs are made on the same stream, late: a kernel on another would read garbage."""
    inputs = on_gpu(make_inputs(1024, 64))
    expected = bi_wkv(*inputs)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        late = [x.clone() for x in inputs]
        y = bi_wkv(*late)
    stream.synchronize()
    assert torch.equal(y, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [97, 1024, 4500])  # one launch, two, and three
def test_gpu_graph_capture(kernels: None, tokens: int) -> None:
    leaves = [x.requires_grad_() for x in on_gpu(make_inputs(tokens, 16))]
    grad = torch.randn_like(leaves[2])

    def work() -> tuple[Tensor, ...]:
        y = bi_wkv(*leaves)
        return (y, *torch.autograd.grad(y, leaves, grad))

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = work()
    with torch.no_grad():
        leaves[2].mul_(-1)  # what is replayed reads what is there then
    graph.replay()
    torch.cuda.synchronize()
    for ours, expected in zip(captured, work(), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.gpu
def test_gpu_op_check(kernels: None) -> None:
    w, u, k, v = on_gpu(make_inputs(9, 4))
    torch.library.opcheck(torch.ops.rwkv_edge.bi_wkv.default, (w, u, k.requires_grad_(), v))


@pytest.mark.gpu
@pytest.mark.slow
def test_gpu_compiled(kernels: None) -> None:
    inputs = on_gpu(make_inputs(97, 16))

    def gated(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.sigmoid(k) * bi_wkv(w / 2, u / 2, k, v)

    torch.testing.assert_close(torch.compile(gated, fullgraph=True)(*inputs), gated(*inputs))
