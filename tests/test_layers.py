"""The import order of the house: strictly downward, siblings never import each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rwkv_edge"
LAYERS = (
    ("errors", "config", "operators"),
    ("cache", "files", "memory", "preprocess", "metrics"),
    ("compiler", "download", "drawing", "weights"),
    ("ops",),
    ("models",),
    ("data",),
    ("training", "evaluation", "export", "runtime", "video", "bench"),
    ("monitor", "web", "doctor"),
    ("cli",),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}


def imports_of(path: Path) -> set[str]:
    """Every module name that a file imports, at any depth, absolute."""
    names = set()
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parts[: len(parts) - node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "rwkv_edge" and len(parts) > 1 else None


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    assert room in RANK, f"{room} has no place in the import order"
    for module in imports_of(path):
        target = room_of(module)
        if target not in RANK or target == room:
            continue
        assert RANK[target] < RANK[room], f"{path} imports {module}"


def test_an_upward_import_would_be_found(tmp_path: Path) -> None:
    """The walk sees relative imports and imports inside functions."""
    source = PACKAGE / "ops" / "_probe.py"
    source.write_text("def f():\n    from ..models import blocks\n    import rwkv_edge.cli.app\n")
    try:
        found = {room_of(module) for module in imports_of(source)}
    finally:
        source.unlink()
    assert found == {"models", "cli"}


@pytest.mark.parametrize(
    "module",
    [
        "rwkv_edge.runtime",
        "rwkv_edge.runtime.onnxruntime",
        "rwkv_edge.runtime.tensorrt",
        "rwkv_edge.video.pipeline",
        "rwkv_edge.web.server",
        "rwkv_edge.bench.meters",
        "rwkv_edge.bench.roofline",
        "rwkv_edge.bench.figures",
        "rwkv_edge.evaluation",
        "rwkv_edge.evaluation.volumes",
        "rwkv_edge.data.fetch",
        "rwkv_edge.data.pairs",
        "rwkv_edge.data.synth",
        "rwkv_edge.cli.app",
    ],
)
def test_works_without_torch(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_line_imports_nothing_heavy() -> None:
    code = (
        "import rwkv_edge.cli.app, sys; "
        "print([m for m in ('numpy', 'cv2', 'onnxruntime', 'av', 'yaml') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
