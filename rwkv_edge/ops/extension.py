"""bi-WKV on CUDA tensors: the kernels of plugins/bi_wkv, compiled once and kept in the cache.

The first CUDA tensor compiles them for the GPUs that are here (a minute or so, by nvcc alone).
Where that cannot be done the op runs in Torch, and one warning says why and what to do about it.
"""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor

from rwkv_edge.cache import code_cache
from rwkv_edge.compiler import (
    compiler_version,
    failure,
    find_tool,
    sources_folder,
    sources_sha256,
)
from rwkv_edge.errors import BackendError, RwkvEdgeError
from rwkv_edge.files import atomic_path
from rwkv_edge.ops.bi_wkv import bi_wkv_backward_op, bi_wkv_op, torch_backward, torch_forward

KERNEL_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def describe(device: torch.device) -> str:
    """Say in words what runs bi-WKV on a device; on CUDA this compiles what is not yet compiled."""
    if device.type != "cuda":
        return f"Torch on {device.type}"
    return "Torch on cuda, without the fused kernels" if why_not() else "fused CUDA kernels"


@functools.cache
def why_not() -> str | None:
    """Load the kernels, compiling them first if need be.

    Returns:
        None, or the reason why there are none, of which the first call warns.
    """
    try:
        architectures = present_architectures()
        library = library_path(architectures)
        if not library.is_file():
            build_extension(architectures)
        _load(library)
    except RwkvEdgeError as error:
        warnings.warn(
            f"bi-WKV runs in Torch, several times slower than its CUDA kernels: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return str(error)
    return None


def present_architectures() -> tuple[str, ...]:
    """Return the compute capabilities of the GPUs that Torch sees, as nvcc writes them: ('90',)."""
    capabilities = map(torch.cuda.get_device_capability, range(torch.cuda.device_count()))
    return tuple(sorted({f"{major}{minor}" for major, minor in capabilities}))


def library_path(architectures: tuple[str, ...]) -> Path:
    """Return where the library for these sources, this Torch and these GPUs belongs."""
    key = "\n".join([sources_sha256(), torch.__version__, str(torch.version.cuda), *architectures])
    name = f"torch-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return code_cache() / name / "librwkv_edge_torch.so"


def build_extension(architectures: tuple[str, ...]) -> Path:
    """Compile the library, whole or not at all.

    Args:
        architectures: compute capabilities without the dot, for example '90'.

    Returns:
        Its path, in the cache.

    Raises:
        BackendError: this Torch has no CUDA, a compiler is missing or unfit, or it failed.
        OutputError: the cache cannot be written.
    """
    if torch.version.cuda is None:
        raise BackendError(
            f"this Torch ({torch.__version__}) was built without CUDA; install one with it "
            "(https://pytorch.org/get-started)"
        )
    if not architectures:
        raise BackendError("Torch sees no CUDA GPU to compile the bi-WKV kernels for")
    return compile_library(_find_nvcc(torch.version.cuda), architectures)


def compile_library(nvcc: str, architectures: tuple[str, ...]) -> Path:
    """Run nvcc; see `build_extension`."""
    library = library_path(architectures)
    names = ", ".join(f"sm_{name}" for name in architectures)
    print(f"compiling the bi-WKV kernels for {names}, once: {library}", file=sys.stderr)
    with atomic_path(library) as temporary:
        command = compile_command(nvcc, architectures, temporary)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = failure(done.stdout + done.stderr)
            raise BackendError(f"the bi-WKV kernels do not compile: {reason}")
    return library


def compile_command(nvcc: str, architectures: tuple[str, ...], output: Path) -> list[str]:
    """Return the one call of nvcc that makes the library. No Python headers, no ninja."""
    sources, torch_folder = sources_folder() / "bi_wkv", Path(torch.__file__).parent
    abi = int(torch.compiled_with_cxx11_abi())
    return [
        *(nvcc, "-std=c++17", "-O3", "-shared", "-cudart=shared", "-Xcompiler=-fPIC"),
        *(f"-gencode=arch=compute_{name},code=sm_{name}" for name in architectures),
        f"-D_GLIBCXX_USE_CXX11_ABI={abi}",
        *("-isystem", str(torch_folder / "include")),
        *(str(sources / "bi_wkv_kernel.cu"), str(sources / "bi_wkv_torch.cpp")),
        *(f"-L{torch_folder / 'lib'}", "-lc10", "-lc10_cuda", "-ltorch_cpu"),
        *("-o", str(output)),
    ]


def _find_nvcc(cuda: str) -> str:
    """Return an nvcc of the CUDA release that Torch was built with, up to the minor number."""
    nvcc = find_tool("nvcc")
    if nvcc is None:
        raise BackendError(
            f"nvcc was not found; install the CUDA toolkit {cuda}, or let CUDA_HOME name its folder"
        )
    if find_tool("g++") is None:
        raise BackendError("g++ was not found; install it (sudo apt install g++)")
    version = compiler_version(nvcc)
    if version.split(".")[0] != cuda.split(".")[0]:
        raise BackendError(
            f"{nvcc} is of CUDA {version}, and Torch was built with {cuda}; install the CUDA "
            f"toolkit {cuda} and let CUDA_HOME name its folder"
        )
    return nvcc


def _load(library: Path) -> None:
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        raise BackendError(
            f"{library} cannot be loaded ({error}); delete its folder, and it is compiled again"
        ) from error


@bi_wkv_op.register_kernel("cuda")
def _(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if k.dtype not in KERNEL_TYPES or why_not():
        return torch_forward(w, u, k, v)
    y: Tensor = torch.ops.rwkv_edge.bi_wkv_cuda(w.float(), u.float(), k, v)
    return y


@bi_wkv_backward_op.register_kernel("cuda")
def _(
    grad: Tensor, w: Tensor, u: Tensor, k: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if k.dtype not in KERNEL_TYPES or why_not():
        return torch_backward(grad, w, u, k, v)
    grads = torch.ops.rwkv_edge.bi_wkv_cuda_backward(w.float(), u.float(), k, v, grad)
    grad_w, grad_u, grad_k, grad_v = grads
    return grad_w.to(w.dtype), grad_u.to(u.dtype), grad_k, grad_v
