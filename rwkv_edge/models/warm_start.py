"""Start a network from a trained one, of its own variant or of a smaller one, which then grows.

Growing keeps what the smaller network computes (Net2Net, arXiv 1511.05641): a new channel is a copy
of an old one, and what reads both divides between them; a new block adds nothing at first. So a
Small that starts from Tiny's weights begins where Tiny ended.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from rwkv_edge.errors import CheckpointError
from rwkv_edge.models.checkpoint import load_checkpoint, load_model, read_info
from rwkv_edge.models.rwkv_unet import RWKVUNet

QUARTERS = 4
"""The q-shift moves each quarter of the channels its own way: a copy stays in its quarter."""
LEAST_SHARE = 1e-3
_HEAD = "final_conv."
_BLOCK = re.compile(r"(encoder\.stage\d)\.(\d+)\.(.+)")
_JOINED_SKIPS = re.compile(r"ccm\.(ln1|channel)\.")
_JOINED_PAIR = re.compile(r"decoder[234]\.(?!proj\.norm)")


def start_from(model: nn.Module, variant: str, path: Path) -> str | None:
    """Load the weights of a file into `model`, as far as they fit.

    A smaller RWKV-UNet of ours grows; a head for another number of classes is left fresh.

    Args:
        model: from `create_model(variant, ...)`; changed in place.
        variant: its name.
        path: a checkpoint of ours, or an upstream one, which must fit strictly.

    Returns:
        What did not simply fit and was done about it, in a sentence for the user.

    Raises:
        CheckpointError: unreadable, or of a network that does not grow into this one.
    """
    info = read_info(path)
    planes = model.get_parameter(_HEAD + "bias").shape[0]
    if info is None or (info.variant == variant and info.num_classes == planes):
        load_checkpoint(model, path)
        return None
    source, _ = load_model(path)
    if info.variant != variant:
        if not isinstance(model, RWKVUNet) or not isinstance(source, RWKVUNet):
            raise CheckpointError(f"{path}: holds a '{info.variant}', not a '{variant}'")
        try:
            grow(source, model)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: holds a '{info.variant}'; {error}") from error
        done = f"{path.name}: a {info.variant}, grown to {variant}"
    else:
        theirs = source.state_dict()
        heads = {name: t for name, t in model.state_dict().items() if name.startswith(_HEAD)}
        model.load_state_dict({**theirs, **heads})
        done = f"{path.name}"
    if info.num_classes != planes:
        done += f"; its head is for {', '.join(info.names)} and starts anew"
    return done


def grow(smaller: RWKVUNet, larger: RWKVUNet) -> None:
    """Fill `larger` so that it computes what `smaller` does.

    Exactly so if every channel becomes the same number of copies; otherwise LayerNorm sees some
    channels more often than others, and the logits differ by some hundredths. The shares in which
    the copies of a channel are read are drawn at random for each reader (Torch's generator), or the
    copies would learn the same for ever. A head for another number of classes is left as it is.

    Args:
        smaller: the trained network.
        larger: at least as wide and as deep everywhere; changed in place.

    Raises:
        CheckpointError: it is not.
    """
    theirs, ours = smaller.state_dict(), larger.state_dict()
    unused = [name for name in theirs if name not in ours]
    if unused:
        raise CheckpointError(f"a network does not shrink ({unused[0]} has no place)")
    for name, tensor in ours.items():
        old_name, new_block = _ancestor(name, theirs)
        old = theirs[old_name]
        if name.startswith(_HEAD) and old.shape[0] != tensor.shape[0]:
            continue
        for dim in range(old.ndim):
            if old.shape[dim] != tensor.shape[dim]:
                old = _widen(old, dim, tensor.shape[dim], _parts(name, dim))
        tensor.copy_(torch.zeros_like(old) if new_block and ".proj." in name else old)


def _ancestor(name: str, theirs: dict[str, Tensor]) -> tuple[str, bool]:
    """Return where a tensor comes from; True: a new block, from the last one of its stage."""
    found = _BLOCK.fullmatch(name)
    if name in theirs or found is None:
        return name, False
    stage, index, rest = found.groups()
    last = max(i for i in range(int(index)) if f"{stage}.{i}.{rest}" in theirs)
    return f"{stage}.{last}.{rest}", True


def _parts(name: str, dim: int) -> int:
    """Return into how many equal parts a dimension falls that grow each by itself."""
    if _JOINED_SKIPS.match(name):
        return 3 * QUARTERS
    if _JOINED_PAIR.match(name) and not (".proj." in name and dim == 0):
        return 2 * QUARTERS
    return QUARTERS


def _widen(old: Tensor, dim: int, count: int, parts: int) -> Tensor:
    """Repeat channels along `dim`; along the one that is read, divide each among its copies."""
    if count < old.shape[dim]:
        raise CheckpointError(
            f"a network does not shrink from {old.shape[dim]} channels to {count}"
        )
    old_part, new_part = old.shape[dim] // parts, count // parts
    place = torch.arange(count)
    origin = place // new_part * old_part + place % new_part % old_part
    wide = old.index_select(dim, origin)
    if dim != 1 or old.ndim not in (2, 4):
        return wide
    share = torch.rand(wide.shape[:2]) + LEAST_SHARE
    total = torch.zeros(old.shape[:2]).index_add_(1, origin, share)
    share = share / total[:, origin]
    return wide * share.reshape(*share.shape, *[1] * (old.ndim - 2))
