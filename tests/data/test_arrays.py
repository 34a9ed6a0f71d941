from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rwkv_edge.data.arrays import load_arrays
from rwkv_edge.data.pairs import Pair


@pytest.mark.parametrize("size", [(531, 622), (1080, 1350), (96, 96)])
def test_a_shrunken_mask_lies_on_its_picture(size: tuple[int, int], tmp_path: Path) -> None:
    mask = np.zeros(size, np.uint8)
    cv2.circle(mask, (round(0.62 * size[1]), round(0.41 * size[0])), round(0.12 * size[0]), 255, -1)
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    cv2.imwrite(str(tmp_path / "image.png"), cv2.merge([mask] * 3))
    images, masks = load_arrays([Pair(tmp_path / "image.png", tmp_path / "mask.png")], 1, (64, 64))
    rows, columns = np.indices((64, 64))
    for axis in (rows, columns):
        seen, labelled = images[0, :, :, 0].astype(float), masks[0].astype(float)
        centres = [(axis * weight).sum() / weight.sum() for weight in (seen, labelled)]
        assert centres[0] == pytest.approx(centres[1], abs=0.2)
