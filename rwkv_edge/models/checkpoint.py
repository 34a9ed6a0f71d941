"""Reading and writing weights: our safetensors, and the upstream project's checkpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rwkv_edge.config import VARIANTS
from rwkv_edge.errors import CheckpointError
from rwkv_edge.files import atomic_path
from rwkv_edge.models.create import create_model
from rwkv_edge.models.rwkv_unet import RWKVUNet

METADATA_KEY = "rwkv_edge"
RUN_STATE_KEY = "run_state"
"""In what a file says about itself if a run is resumed from it: it holds more than weights."""
AVERAGE_PREFIX = "average."
"""Of the weights in such a file that count: the moving average, which is what a run validates."""
_WRAPPERS = ("state_dict", "model", "model_state_dict")
_CLASSIFIER = re.compile(r"encoder\.(norm\.norm|head)\.(weight|bias)")
_LEFTOVER_NORM = re.compile(r"(encoder\.stage\d\.\d+|decoder\d)\.ln[12]\.(weight|bias)")
_ATTENTION = re.compile(
    r"encoder\.stage\d\.\d+\.att\.(spatial_(decay|first|mix_[kvr])"
    r"|(key|value|receptance|output)\.weight|key_norm\.(weight|bias))"
)
SHOWN_NAMES = 6


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint of ours says about itself, in the header of the safetensors file."""

    variant: str
    num_classes: int = 1
    names: tuple[str, ...] = ("polyp",)
    imgsz: tuple[int, int] = (256, 256)
    training: str = ""
    """The data and the recipe, in a sentence."""


def save_checkpoint(
    path: Path, state: Mapping[str, Tensor], info: CheckpointInfo, *, half: bool = False
) -> None:
    """Write weights as safetensors, whole or not at all.

    Args:
        path: file to write.
        state: a state dict.
        info: stored in the header.
        half: store floating-point tensors as float16.

    Raises:
        OutputError: the folder cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    if half:
        tensors = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={METADATA_KEY: json.dumps(asdict(info))})


def read_info(path: Path) -> CheckpointInfo | None:
    """Return what a safetensors file of ours says about itself; None for any other file.

    Raises:
        CheckpointError: missing or damaged.
    """
    if path.suffix != ".safetensors":
        return None
    with _open_safetensors(path) as file:
        values = _header(path, file)
    if values is None:
        return None
    try:
        known = {f.name: values[f.name] for f in fields(CheckpointInfo) if f.name in values}
        known["names"], known["imgsz"] = tuple(known["names"]), tuple(known["imgsz"])
        info = CheckpointInfo(**known)
        if info.variant not in VARIANTS or info.num_classes != len(info.names):
            raise ValueError(f"variant {info.variant}, {info.num_classes} of {info.names}")
        return info
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: its header cannot be understood ({error})") from error


def load_model(path: Path, variant: str | None = None) -> tuple[nn.Module, CheckpointInfo]:
    """Build the network that a checkpoint belongs to and load it.

    Args:
        path: weights.
        variant: what the caller expects; None: any, which upstream files show by their tensors.

    Returns:
        The network in evaluation mode, in float32, and what the file says about itself.

    Raises:
        CheckpointError: missing, damaged, of another variant than `variant`, or of none.
    """
    info = read_info(path)
    if info is None:
        return _load_foreign(path, variant)
    if variant is not None and info.variant != variant:
        raise CheckpointError(f"{path}: holds a '{info.variant}', not a '{variant}'")
    model = create_model(info.variant, info.num_classes)
    load_checkpoint(model, path)
    return model.eval(), info


def _load_foreign(path: Path, variant: str | None) -> tuple[nn.Module, CheckpointInfo]:
    """Load what does not say which variant it is: names and shapes fit one at most."""
    state = _read(path)
    if _is_encoder(state):
        raise CheckpointError(f"{path}: holds an encoder alone; use it with train --init")
    head = state.get("final_conv.weight")
    classes = 1 if head is None or not head.ndim else max(1, len(head))
    numbered = ("background", *(f"class {number}" for number in range(1, classes)))
    names = numbered if classes > 1 else CheckpointInfo.names
    for candidate in (variant,) if variant else VARIANTS:
        model = create_model(candidate, classes)
        try:
            load_checkpoint(model, state)
        except CheckpointError as error:
            if variant:
                raise CheckpointError(f"{path}: {error}") from error
        else:
            return model.eval(), CheckpointInfo(candidate, classes, names)
    raise CheckpointError(
        f"{path}: its tensors are not those of {', '.join(VARIANTS[:-1])} or {VARIANTS[-1]}"
    )


def load_checkpoint(model: nn.Module, weights: Path | str | Mapping[str, Tensor]) -> None:
    """Load weights of ours or of the upstream project into `model`, strictly.

    An upstream model carries parameters that it never uses (attention in blocks that never call it,
    leftover norms, the classifier); exactly those are dropped. An upstream ImageNet encoder (names
    without the prefix `encoder.`) fills the encoder alone.

    Args:
        model: from `create_model`.
        weights: a safetensors or .pth file, or a state dict.

    Raises:
        CheckpointError: unreadable, unsafe, or with names missing, unexpected or of another shape;
            the message lists them.
    """
    source = "state dict" if isinstance(weights, Mapping) else str(weights)
    state = _plain_names(weights) if isinstance(weights, Mapping) else _read(Path(weights))
    own = model.state_dict()
    required = set(own)
    if isinstance(model, RWKVUNet):
        if _is_encoder(state):
            state = {f"encoder.{name}": tensor for name, tensor in state.items()}
            required = {name for name in own if name.startswith("encoder.")}
        state = {n: t for n, t in state.items() if n in own or not _never_used_upstream(n)}
    wrong = {
        "missing": sorted(required - set(state)),
        "unexpected": sorted(set(state) - set(own)),
        "of another shape": [
            f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
            for name, tensor in state.items()
            if name in own and tensor.shape != own[name].shape
        ],
    }
    problems = [f"{kind}: {_list_names(names)}" for kind, names in wrong.items() if names]
    if problems:
        raise CheckpointError(f"{source}: does not fit this model; " + "; ".join(problems))
    model.load_state_dict({**own, **state})


def _plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix that DataParallel sets before every name."""
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _is_encoder(state: Mapping[str, Tensor]) -> bool:
    """Tell an upstream ImageNet encoder, whose names lack `encoder.`, from a whole model."""
    return any(name.startswith("stage0.") for name in state)


def _never_used_upstream(name: str) -> bool:
    """Judge a name that this model does not have."""
    patterns = (_CLASSIFIER, _LEFTOVER_NORM, _ATTENTION)
    return any(pattern.fullmatch(name) for pattern in patterns)


def _list_names(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_NAMES])
    more = len(names) - SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _open_safetensors(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    return file


def _header(path: Path, file: Any) -> dict[str, Any] | None:
    """Return what a safetensors file says about itself, if it is ours."""
    text = (file.metadata() or {}).get(METADATA_KEY)
    if text is None:
        return None
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: its header cannot be understood ({error})") from error


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        with _open_safetensors(path) as file:
            prefix = AVERAGE_PREFIX if RUN_STATE_KEY in (_header(path, file) or {}) else ""
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return _plain_names({n.removeprefix(prefix): file.get_tensor(n) for n in names})
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types here, for damaged and for hostile files
        raise CheckpointError(
            f"{path}: refused; it is damaged, or a pickle that holds more than tensors "
            f"({type(error).__name__})"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    ):
        raise CheckpointError(f"{path}: holds no state dict")
    return _plain_names(content)
