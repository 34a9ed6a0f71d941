"""`rwkv-edge doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rwkv_edge.cli.outputs import JsonOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rwkv_edge.doctor import Check, Section

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(
    json: JsonOption = None,
) -> None:
    """Say what this machine has, what works, and how to mend what does not.

    Exits with 1 if something that rwkv-edge needs does not work. A machine
    without a GPU is fine: the CPU is used.

    Example: rwkv-edge doctor
    """
    from rwkv_edge.cache import cache_path
    from rwkv_edge.cli.console import write_json_option
    from rwkv_edge.doctor import examine

    sections = examine(plan(Path("/"), cache_path(), Path.cwd()))
    page = as_dict(sections)
    if json is not None:
        write_json_option(json, page)
    if json != "-":
        print_page(sections, page)
    if page["problems"]:
        raise typer.Exit(1)


def plan(root: Path, cache: Path, here: Path) -> Sequence[tuple[str, Sequence[Check]]]:
    """List the checks.

    Args:
        root: of the file system, below which /etc, /proc, /sys and /dev are read.
        cache: folder of derived models.
        here: where the user stands.
    """
    from rwkv_edge.doctor import Check, accelerator, frameworks, jetson, media, system

    return (
        (
            "Machine",
            (
                Check("Versions", system.versions),
                Check("Machine", system.machine, (root,)),
                Check("JetPack", jetson.jetpack, (root,)),
                Check("Power mode", jetson.power, (root,)),
                Check("Temperature", system.temperature, (root,)),
                Check("Memory", system.memory, (root,)),
                Check("Disk", system.disk, (cache, here)),
            ),
        ),
        (
            "GPU and TensorRT",
            (
                Check("GPU", accelerator.gpu, (root,), isolated=True),
                Check("CUDA compiler", accelerator.compiler, isolated=True),
                Check("CUDA for Python", accelerator.bindings),
                Check("TensorRT", accelerator.tensorrt, (root, cache), isolated=True),
                Check("TensorRT-RTX", accelerator.tensorrt_rtx, (cache,), isolated=True),
                Check("Plugin", accelerator.plugin, (cache,), isolated=True),
                Check("Engines", accelerator.engines, (cache, here), isolated=True),
            ),
        ),
        (
            "ONNX Runtime, OpenVINO and Torch",
            (
                Check("ONNX Runtime", frameworks.onnxruntime, isolated=True),
                Check("OpenVINO", frameworks.openvino, isolated=True),
                Check("Torch", frameworks.torch),
            ),
        ),
        (
            "Video and cameras",
            (
                Check("OpenCV", media.opencv, (root,), isolated=True),
                Check("PyAV", media.pyav, isolated=True),
                Check("Cameras", media.cameras, (root,), isolated=True),
            ),
        ),
    )


def as_dict(sections: Sequence[Section]) -> dict[str, Any]:
    """Return what `--json` writes."""
    from dataclasses import asdict

    from rwkv_edge import __version__

    statuses = [finding.status for section in sections for finding in section.findings]
    return {
        "rwkv_edge": __version__,
        "problems": statuses.count("problem"),
        "warnings": statuses.count("warning"),
        "sections": [asdict(section) for section in sections],
    }


def print_page(sections: Sequence[Section], page: dict[str, Any]) -> None:
    """Print a line for each finding, and below it what mends it; lines are never broken."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    width = max(len(finding.name) for section in sections for finding in section.findings)
    for section in sections:
        console.print(Text(section.name, "bold"))
        for finding in section.findings:
            mark = Text(f"  {finding.status:<9}", _STYLES[finding.status])
            console.print(mark + Text(f"{finding.name:<{width}}  {finding.reason}"))
            if finding.mend:
                console.print(Text(f"{'':{width + 13}}{finding.mend}", "cyan"))
        console.print()
    console.print(Text(f"{page['problems']} problems, {page['warnings']} warnings"))
