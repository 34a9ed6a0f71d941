"""Exact rewrites of a trained network for inference: the same output, less work (design.md).

Every rewrite is an identity of real numbers, so that only the rounding differs. Each works in
place on a copy, in the order of `fold`: the later ones expect what the earlier ones left.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

from rwkv_edge.models.blocks import ConvNormAct, InvertedResidual
from rwkv_edge.models.folded import (
    FoldedAttentionBlock,
    FoldedRWKVUNet,
    RawSegmenter,
    matrix,
    pointwise,
)
from rwkv_edge.models.rwkv_unet import RWKVUNet
from rwkv_edge.models.segmenter import Segmenter


@torch.no_grad()
def fold(segmenter: Segmenter) -> Segmenter:
    """Return a copy for inference that gives the same probabilities with less work.

    Args:
        segmenter: around an RWKV-UNet or the U-Net, of any floating type; left as it is.
    """
    folded = copy.deepcopy(segmenter).eval().requires_grad_(False)
    network = folded.network
    fold_batch_norms(network)
    if isinstance(network, RWKVUNet):
        fold_pre_norms(network)
        merge_stem(network)
        fold_shifts(network)
        folded = fold_normalisation(folded)
        folded.network = commute_resizes(network)
    return folded.eval().requires_grad_(False)


def fold_batch_norms(network: nn.Module) -> None:
    """Put every BatchNorm that follows a convolution into the convolution."""
    for module in network.modules():
        if isinstance(module, ConvNormAct) and isinstance(module.norm, nn.BatchNorm2d):
            _scale_outputs(module.conv, module.norm)
            module.norm = nn.Identity()
        elif isinstance(module, nn.Sequential):
            for index, (first, second) in enumerate(pairwise(module)):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    _scale_outputs(first, second)
                    module[index + 1] = nn.Identity()


def fold_pre_norms(network: RWKVUNet) -> None:
    """Put the BatchNorm before a block into the 1x1 convolution that the block starts with."""
    for block in network.modules():
        if isinstance(block, InvertedResidual) and isinstance(block.norm, nn.BatchNorm2d):
            scale, offset = _affine(block.norm)
            _scale_inputs(block.conv, scale, offset)
            block.norm = nn.Identity()


def merge_stem(network: RWKVUNet) -> None:
    """Make the stem's projection and the next block's expansion one convolution: 3 -> 24 -> 96."""
    stem, first = _first_block(network, "stage0"), _first_block(network, "stage1")
    expansion, projection = first.conv.conv, stem.proj.conv
    first.conv.conv = pointwise(matrix(expansion) @ matrix(projection), expansion.bias)
    stem.register_module("proj", nn.Identity())


def fold_normalisation(segmenter: Segmenter) -> RawSegmenter:
    """Put normalisation and the order of the colours into the first convolution, a 1x1."""
    assert isinstance(segmenter.network, RWKVUNet)
    stem = _first_block(segmenter.network, "stage0")
    _scale_inputs(stem.conv, segmenter.scale.flatten(), segmenter.offset.flatten())
    stem.conv.conv = pointwise(matrix(stem.conv.conv).flip(1), stem.conv.conv.bias)
    return RawSegmenter(segmenter)


def fold_shifts(network: RWKVUNet) -> None:
    """Make q-shift and its mixes one operator in the encoder, tokens (B, H, W, C)."""
    for stage in network.encoder.children():
        assert isinstance(stage, nn.ModuleList)
        for index, block in enumerate(stage):
            if isinstance(block, InvertedResidual) and block.attention:
                stage[index] = FoldedAttentionBlock(block)


def commute_resizes(network: RWKVUNet) -> FoldedRWKVUNet:
    """Move 1x1 convolutions to where the map is smallest: CCM, decoder and head."""
    return FoldedRWKVUNet(network)


def _first_block(network: RWKVUNet, stage: str) -> InvertedResidual:
    block = getattr(network.encoder, stage)[0]
    assert isinstance(block, InvertedResidual)
    return block


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return what a BatchNorm does in evaluation, as x -> scale x + offset, both (C,)."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _scale_outputs(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    scale, offset = _affine(norm)
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    conv.bias = nn.Parameter(offset if conv.bias is None else offset + scale * conv.bias)


def _scale_inputs(layer: ConvNormAct, scale: Tensor, offset: Tensor) -> None:
    """Make a 1x1 convolution with bias take x where it took scale x + offset."""
    weight, bias = matrix(layer.conv), layer.conv.bias
    assert bias is not None
    layer.conv = pointwise(weight * scale, bias + weight @ offset)
