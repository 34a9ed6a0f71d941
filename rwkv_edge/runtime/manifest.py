"""What stands beside an engine, NAME.engine.json, and the check before anyone loads the engine.

An engine is code for one TensorRT, one GPU and one plugin. The manifest says which, and hashes say
whether files are what they were. This finds mistakes: a copied, outdated or edited file. It does
not stop an attacker who can write both files; hence engines are loaded only from a path that the
user named, or from the cache, which nobody else can write.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rwkv_edge import __version__
from rwkv_edge.config import DEFAULT_MAX_DICE_DROP, NORMALISATION
from rwkv_edge.errors import BackendError
from rwkv_edge.files import file_sha256, write_json
from rwkv_edge.runtime.machine import Gpu

FORMAT = 1
PREPROCESSING = (
    "uint8 NHWC BGR, letterboxed on black; normalisation inside: "
    f"RGB mean {NORMALISATION.mean} std {NORMALISATION.std} of 0..1"
)
_DIGEST = "manifest_sha256"
ALLOWED_DROP = "max_dice_drop"
"""In the gate: the loss of Dice that the engine was allowed."""


@dataclass(frozen=True)
class Manifest:
    """Everything that an engine depends on. Plain JSON values only."""

    engine_sha256: str
    backend: str
    """'tensorrt' or 'tensorrt-rtx'."""
    backend_version: str
    compute_capability: str | None
    """'8.7'; None where TensorRT-RTX built for all GPUs that it supports."""
    gpu: str | None
    """Name of the GPU it was built on; None where it was built ahead of time."""
    cuda: str | None
    """Newest version that the driver of that GPU supports."""
    driver: str | None
    plugin_sha256: str | None
    """None for an engine of native layers."""
    plugin_version: str | None
    onnx: str
    """Path of the ONNX file, as the build was given it."""
    onnx_sha256: str
    weights_sha256: str
    variant: str
    names: tuple[str, ...]
    precision: str
    unquantised_layers: tuple[str, ...]
    """Layers that int8 was kept away from, by measurement."""
    shapes: Mapping[str, tuple[tuple[int, ...], ...]]
    """By input: the least, the likeliest and the largest shape."""
    layers: Mapping[str, int]
    """Layers of the network by TensorRT's type."""
    gate: Mapping[str, Any] | None
    """The comparison with float32, and under 'ran' what was compared; None where nothing was."""
    command: tuple[str, ...]
    """The words that build the engine again."""
    preprocessing: str = PREPROCESSING
    multiprocessors: int | None = None
    """Of that GPU, in its power mode; None where 'gpu' is, and in manifests from before this."""
    rwkv_edge_version: str = __version__
    format: int = FORMAT

    @property
    def max_dice_drop(self) -> float:
        """What the engine may lose of Dice; where the gate does not say it, the default."""
        return float((self.gate or {}).get(ALLOWED_DROP, DEFAULT_MAX_DICE_DROP))


@dataclass(frozen=True)
class Environment:
    """What is about to load an engine."""

    backend: str
    backend_version: str
    gpu: Gpu | None
    plugin_sha256: str | None


def manifest_path(engine: Path) -> Path:
    """Return where the manifest of an engine stands."""
    return engine.with_name(engine.name + ".json")


def write_manifest(engine: Path, manifest: Manifest) -> None:
    """Write the manifest beside `engine`, with a digest over itself."""
    values = asdict(manifest)
    write_json(manifest_path(engine), {**values, _DIGEST: _digest(values)})


def read_manifest(engine: Path) -> Manifest:
    """Read the manifest beside `engine`.

    Raises:
        BackendError: engine or manifest missing; of another version of rwkv-edge, damaged or
            edited.
    """
    if not engine.is_file():
        raise BackendError(f"{engine}: no such file; rwkv-edge build makes engines")
    path = manifest_path(engine)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        digest = values.pop(_DIGEST)
    except OSError as error:
        raise BackendError(
            f"{engine}: no readable manifest beside it ({path.name}); an engine without one is not "
            "loaded, build it with rwkv-edge build"
        ) from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BackendError(f"{path}: not a manifest; rwkv-edge build writes a new one") from error
    if digest != _digest(values):
        raise BackendError(
            f"{path}: was changed after the engine was built; rwkv-edge build makes both anew"
        )
    values.setdefault("multiprocessors", None)  # the one field that came later
    if values.get("format") != FORMAT or set(values) != {f.name for f in fields(Manifest)}:
        raise BackendError(
            f"{path}: is of rwkv-edge {values.get('rwkv_edge_version', 'unknown')}, this is "
            f"{__version__}; rwkv-edge build makes the engine anew"
        )
    for name in ("names", "unquantised_layers", "command"):
        values[name] = tuple(values[name])
    values["shapes"] = {k: tuple(map(tuple, v)) for k, v in values["shapes"].items()}
    return Manifest(**values)


def verify(engine: Path, here: Environment) -> Manifest:
    """Check that an engine is whole, unchanged and made for this environment.

    Args:
        engine: path of the engine.
        here: what would load it.

    Raises:
        BackendError: with what differs and the command that builds the engine again.
    """
    manifest = read_manifest(engine)
    problem = _changed(engine, manifest) or _foreign(manifest, here)
    if problem:
        raise BackendError(f"{engine}: {problem}; build it again: {shlex.join(manifest.command)}")
    return manifest


def _changed(engine: Path, manifest: Manifest) -> str | None:
    """Compare the files with their hashes."""
    if file_sha256(engine) != manifest.engine_sha256:
        return "the file is damaged or not the one that was built"
    source = Path(manifest.onnx)  # none where the engine is found by the model's hash
    if source.is_file() and file_sha256(source) != manifest.onnx_sha256:
        return f"stale, {source} has changed since"
    return None


def _foreign(manifest: Manifest, here: Environment) -> str | None:
    """Compare the environment with the one that the engine was built for."""
    if (manifest.backend, manifest.backend_version) != (here.backend, here.backend_version):
        return (
            f"built by {manifest.backend} {manifest.backend_version}, here is "
            f"{here.backend} {here.backend_version}"
        )
    if here.gpu is None:
        return "needs a CUDA GPU, and there is none here"
    wanted = manifest.compute_capability
    if wanted not in (None, here.gpu.compute_capability):
        return (
            f"built for compute capability {wanted}, {here.gpu.name} has "
            f"{here.gpu.compute_capability}"
        )
    if manifest.backend == "tensorrt" and manifest.gpu != here.gpu.name:
        return f"built on {manifest.gpu}, here is {here.gpu.name}"
    count = manifest.multiprocessors
    if manifest.backend == "tensorrt" and count not in (None, here.gpu.multiprocessors):
        return (
            f"built on {manifest.gpu} with {count} multiprocessors, here it has "
            f"{here.gpu.multiprocessors}: another module, or another power mode (build in the mode "
            "that is used)"
        )
    if manifest.plugin_sha256 not in (None, here.plugin_sha256):
        if here.plugin_sha256 is None:
            return "needs our plugin, which is not built here (rwkv-edge plugin build)"
        return "built with another build of our plugin"
    return None


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
