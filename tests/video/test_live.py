from __future__ import annotations

import pytest

from rwkv_edge.errors import UsageError
from rwkv_edge.video.live import Controls, View


def test_changes_are_one_new_view() -> None:
    controls = Controls()
    before = controls.view
    after = controls.update(confidence=1, frozen=True)
    assert after is controls.view
    assert after == View(confidence=1, frozen=True)
    assert before == View()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "no setting 'colour'; there are confidence"),
        ({"fill": True}, "fill must be a number"),
        ({"fill": "1"}, "fill must be a number"),
        ({"frozen": 1}, "frozen must be true or false"),
        ({"confidence": 1.5}, "between 0 and 1"),
        ({"confidence": float("nan")}, "between 0 and 1"),
        ({"contour": False, "fill": -0.1}, "between 0 and 1"),
    ],
)
def test_wrong_settings_change_nothing(changes: dict[str, float], message: str) -> None:
    controls = Controls()
    with pytest.raises(UsageError, match=message):
        controls.update(**changes)
    assert controls.view == View()
