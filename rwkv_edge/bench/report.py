"""What a benchmark says: the record that becomes JSON, its CSV, and comparisons of two records."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rwkv_edge.bench.power import Usage
from rwkv_edge.bench.stages import TOTAL, Samples
from rwkv_edge.bench.timing import NOISY_CV, Interval, ratio_interval, summarise
from rwkv_edge.config import RESEARCH_USE
from rwkv_edge.errors import DataError

FORMAT = 1
COMPARED = ("inference", TOTAL)
_COLUMNS = ("mean_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms", "cv_percent")


def describe_candidate(
    samples: Samples, batch: int, usage: Usage | None, reason: str, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the part of the record that belongs to one candidate.

    Args:
        samples: from `measure`.
        batch: frames in one call.
        usage: while this candidate ran alone; None: not measurable.
        reason: why it, or its joules, could not be measured.
        about: model, backend, memory and the like.
    """
    stages = summarise({stage: [ms / 1e3 for ms in values] for stage, values in samples.items()})
    frame_seconds = stages[TOTAL]["mean_ms"] / 1e3 / batch
    power: dict[str, Any] = {"joules_per_frame": None, "reason": reason}
    if usage is not None:
        power |= asdict(usage)
        if usage.watts is not None:
            power |= {"joules_per_frame": usage.watts * frame_seconds, "reason": None}
    return {
        **about,
        "frames": batch * len(samples[TOTAL]),
        "fps": 1 / frame_seconds,
        "stages": {
            stage: {column: round(row[column], 4) for column in _COLUMNS}
            for stage, row in stages.items()
        },
        "power": power,
        "samples_ms": {stage: [round(ms, 4) for ms in v] for stage, v in samples.items()},
    }


def warnings_of(record: Mapping[str, Any]) -> list[str]:
    """Return what makes the figures of a record less trustworthy, one line each."""
    found = []
    locked = record["power_source"]["clocks_locked"]
    if locked is not True:
        state = "are not locked" if locked is False else "could not be seen to be locked"
        found.append(f"clocks {state}; on a Jetson, sudo jetson_clocks locks them")
    for name, candidate in record["candidates"].items():
        cv = candidate["stages"]["inference"]["cv_percent"]
        if cv > NOISY_CV:
            found.append(
                f"{name}: inference is unsteady, coefficient of variation {cv:.1f} % "
                f"(above {NOISY_CV:g} %)"
            )
    return found


def to_csv(record: Mapping[str, Any]) -> str:
    """Return one line a candidate and stage, after a comment line."""
    text = io.StringIO()
    text.write(f"# {RESEARCH_USE}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["candidate", "backend", "stage", *_COLUMNS, "frames", "fps", "joules_per_frame"]
    )
    for name, candidate in record["candidates"].items():
        joules = candidate["power"]["joules_per_frame"]
        for stage, row in candidate["stages"].items():
            figures = [row[column] for column in _COLUMNS]
            end = [
                candidate["frames"],
                round(candidate["fps"], 3),
                "" if joules is None else joules,
            ]
            writer.writerow([name, candidate["backend"], stage, *figures, *end])
    return text.getvalue()


def read_record(path: Path) -> dict[str, Any]:
    """Read what an earlier benchmark wrote.

    Raises:
        DataError: missing, or no benchmark of this version.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if not isinstance(record, dict) or record.get("benchmark_format") != FORMAT:
        raise DataError(f"{path}: not a record of this version of rwkv-edge benchmark")
    return record


def compare_within(record: Mapping[str, Any]) -> dict[tuple[str, str], Interval]:
    """Return each candidate's time as a share of the first one's, by label and stage."""
    candidates: dict[str, Any] = record["candidates"]
    first = next(iter(candidates.values()))["samples_ms"]
    return {
        (name, stage): ratio_interval(candidate["samples_ms"][stage], first[stage], paired=True)
        for name, candidate in list(candidates.items())[1:]
        for stage in COMPARED
    }


def compare_records(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Interval]:
    """Return our time as a share of theirs for pairs of labels, by our label and stage."""
    return {
        (a, stage): ratio_interval(
            ours["candidates"][a]["samples_ms"][stage],
            theirs["candidates"][b]["samples_ms"][stage],
            paired=False,
        )
        for a, b in pairs
        for stage in COMPARED
    }


def matching(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pair the candidates of two records: by label; a lone one with a lone one.

    Raises:
        DataError: nothing fits.
    """
    a, b = list(ours["candidates"]), list(theirs["candidates"])
    if len(a) == len(b) == 1:
        return [(a[0], b[0])]
    common = [(name, name) for name in a if name in b]
    if not common:
        raise DataError(f"nothing to compare: here {', '.join(a)}; there {', '.join(b)}")
    return common
