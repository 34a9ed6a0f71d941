"""`rwkv-edge plugin build` and `rwkv-edge plugin info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

plugin = typer.Typer(
    help="The TensorRT plugin: bi-WKV, and q-shift with its mixes, as one kernel each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@plugin.command("build")
def build(
    arch: Annotated[
        list[str] | None,
        typer.Option(
            help="Compute capability, as 87 or 8.7; may be repeated. Default: this GPU's."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the library. Default: in the cache.")
    ] = None,
    headers: Annotated[
        Path | None, typer.Option(help="Folder of TensorRT's headers. Default: found.")
    ] = None,
    fetch_headers: Annotated[
        bool, typer.Option("--fetch-headers", help="Take NVIDIA's TensorRT headers from PyPI.")
    ] = False,
    for_torch: Annotated[
        bool,
        typer.Option("--torch", help="Compile the kernels for Torch instead, into the cache."),
    ] = False,
) -> None:
    """Compile the plugin; needs nvcc, a C++ compiler, CMake and TensorRT's headers.

    Example: rwkv-edge plugin build --arch 87
    """
    from rwkv_edge.cache import code_cache
    from rwkv_edge.cli.loading import require_torch
    from rwkv_edge.errors import UsageError
    from rwkv_edge.runtime import plugin as plugins
    from rwkv_edge.runtime.machine import find_gpu

    if headers is not None and fetch_headers:
        raise UsageError("--headers and --fetch-headers exclude each other")
    if for_torch and (output, headers, fetch_headers) != (None, None, False):
        raise UsageError("--torch takes no --output and no headers: its library goes to the cache")
    gpu = find_gpu()
    wanted = [text.replace(".", "") for text in arch or ([gpu.architecture] if gpu else [])]
    if not wanted:
        raise UsageError("no GPU here to compile for; name one: --arch 87 for Orin, 110 for Thor")
    wrong = next((text for text in wanted if not text.isdecimal()), None)
    if wrong is not None:
        raise UsageError(f"--arch {wrong}: give a compute capability, as 87 or 8.7")
    if for_torch:
        require_torch("plugin build --torch")
        from rwkv_edge.ops.extension import build_extension

        print(f"library: {build_extension(tuple(sorted(set(wanted))))}")
        return
    cached = code_cache() / "tensorrt-headers"
    if fetch_headers:
        headers = plugins.fetch_headers(cached)
    elif headers is None and cached.is_dir():
        headers = cached
    folder = output or plugins.default_folder(code_cache())
    _print(plugins.build_plugin(folder, wanted, headers))


@plugin.command("info")
def info(
    folder: Annotated[
        Path | None, typer.Option("--plugin", help="Folder of a plugin. Default: in the cache.")
    ] = None,
) -> None:
    """Say where sources, tools and the compiled plugin are, and whether TensorRT takes it.

    Example: rwkv-edge plugin info
    """
    from rwkv_edge.cache import code_cache
    from rwkv_edge.compiler import find_tool, sources_folder
    from rwkv_edge.errors import BackendError
    from rwkv_edge.runtime import plugin as plugins
    from rwkv_edge.runtime.backend import TENSORRT, TENSORRT_RTX, is_installed, load_backend
    from rwkv_edge.runtime.backend import load_plugin as load

    print(f"sources: {sources_folder()}")
    for tool in ("nvcc", "cmake", "c++"):
        print(f"{tool}: {find_tool(tool) or 'not found'}")
    place = folder or plugins.default_folder(code_cache())
    compiled = plugins.find_plugin(place)
    if compiled is None:
        raise BackendError(f"no compiled plugin in {place}; rwkv-edge plugin build makes it")
    _print(compiled)
    for name in filter(is_installed, (TENSORRT, TENSORRT_RTX)):
        backend = load_backend(name)
        load(backend, compiled.library)
        print(f"{name} {backend.version}: loads it")


def _print(compiled: object) -> None:
    from dataclasses import asdict

    for name, value in asdict(compiled).items():  # type: ignore[call-overload]
        print(f"{name}: {', '.join(value) if isinstance(value, tuple) else value}")
