from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from rwkv_edge.bench.power import Usage
from rwkv_edge.bench.report import (
    FORMAT,
    compare_records,
    compare_within,
    describe_candidate,
    matching,
    read_record,
    to_csv,
    warnings_of,
)
from rwkv_edge.bench.timing import NOISY_CV
from rwkv_edge.errors import DataError

USAGE = Usage(3.0, 30, 10.0, 30.0, 50.0, 900.0, None)


def record(scale: float = 1.0, locked: bool | None = True) -> dict[str, Any]:
    steady = {"inference": [scale * 20.0] * 50, "total": [scale * 25.0] * 50}
    shaky = {"inference": [30.0, 50.0] * 25, "total": [50.0, 50.0] * 25}
    return {
        "benchmark_format": FORMAT,
        "power_source": {"clocks_locked": locked},
        "candidates": {
            "a": describe_candidate(steady, 2, USAGE, "", {"backend": "x"}),
            "b": describe_candidate(shaky, 1, None, "no sensor", {"backend": "y"}),
        },
    }


def test_joules_and_frames_a_second_are_of_frames_not_of_calls() -> None:
    candidates = record()["candidates"]
    assert candidates["a"]["frames"] == 100
    assert candidates["a"]["fps"] == pytest.approx(80)
    assert candidates["a"]["power"]["joules_per_frame"] == pytest.approx(10 * 0.0125)
    assert candidates["b"]["power"] == {"joules_per_frame": None, "reason": "no sensor"}


def test_a_sensor_without_watts_gives_the_reason() -> None:
    silent = Usage(3.0, 30, None, None, 50.0, None, None)
    power = describe_candidate({"total": [1.0], "inference": [1.0]}, 1, silent, "silent", {})[
        "power"
    ]
    assert (power["joules_per_frame"], power["reason"]) == (None, "silent")
    assert power["temperature_c"] == 50.0


def test_warnings() -> None:
    (unsteady,) = warnings_of(record(locked=True))
    assert unsteady.startswith("b: inference is unsteady")
    assert f"above {NOISY_CV:g} %" in unsteady
    assert "are not locked" in warnings_of(record(locked=False))[0]
    assert "could not be seen" in warnings_of(record(locked=None))[0]


def test_csv() -> None:
    note, *lines = to_csv(record()).splitlines()
    assert "research use only" in note
    rows = list(csv.DictReader(lines))
    assert [(row["candidate"], row["stage"]) for row in rows] == [
        (name, stage) for name in "ab" for stage in ("inference", "total")
    ]
    assert float(rows[0]["p50_ms"]) == 20
    assert rows[-1]["joules_per_frame"] == ""


def test_ratios() -> None:
    within = compare_within(record())
    assert set(within) == {("b", "inference"), ("b", "total")}
    assert within["b", "total"].value == 2
    across = compare_records(record(2.0), record(), [("a", "a")])
    assert across["a", "inference"].value == 2
    assert across["a", "inference"].differs


def test_matching() -> None:
    one, other = ({"candidates": {name: None}} for name in "pq")
    assert matching(one, other) == [("p", "q")]
    assert matching(record(), record()) == [("a", "a"), ("b", "b")]
    with pytest.raises(DataError, match="nothing to compare"):
        matching(record(), one)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), ("{", "not JSON"), ("[]", "not a record"), ("{}", "not a record")],
)
def test_other_files_are_refused(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_record(path)


def test_a_record_survives_json(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record()))
    assert read_record(path) == record()
