from __future__ import annotations

import pytest
import torch

from rwkv_edge.ops import shift_mix, shift_mix_ref, shift_mix_weight
from rwkv_edge.ops.shift_mix import shift_mix_op

SHAPES = [(1, 3, 4, 5), (2, 4, 1, 1), (1, 7, 1, 6), (2, 9, 5, 1), (1, 96, 6, 8)]


@pytest.mark.parametrize("mixes", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_the_reference(shape: tuple[int, ...], mixes: int) -> None:
    torch.manual_seed(0)
    x, ratios = torch.randn(shape, dtype=torch.float64), torch.randn(mixes, shape[1]).double()
    mixed = shift_mix(x, [shift_mix_weight(ratio) for ratio in ratios])
    assert len(mixed) == mixes
    for y, ratio in zip(mixed, ratios, strict=True):
        assert y.is_contiguous()
        torch.testing.assert_close(y, shift_mix_ref(x, ratio), rtol=0, atol=1e-14)


def test_what_moves_where() -> None:
    """One bright pixel, nothing of the unshifted map: right, left, down, up, and one that stays."""
    x = torch.zeros(1, 5, 3, 3)
    x[:, :, 1, 1] = 1
    (y,) = shift_mix(x, [shift_mix_weight(torch.zeros(5))])
    places = [tuple(place) for place in y[0].permute(2, 0, 1).nonzero().tolist()]
    assert places == [(0, 1, 2), (1, 1, 0), (2, 2, 1), (3, 0, 1), (4, 1, 1)]


def test_the_op_keeps_its_promises() -> None:
    weights = [shift_mix_weight(torch.rand(6)) for _ in range(2)]
    torch.library.opcheck(
        shift_mix_op,
        (torch.randn(2, 6, 4, 5), weights),
        test_utils=("test_schema", "test_faketensor"),
    )
