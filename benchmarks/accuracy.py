"""What each ingredient of the training is worth: the recipe with and without it, over seeds.

    python benchmarks/accuracy.py --data kvasir-seg --epochs 60 -- --imgsz 256 --progressive --amp

A change is some options of `rwkv-edge train`, given as `--change="--without paste"` or
`--change=--light`; without any, each ingredient of the augmentation is left out in turn. What
stands after `--` goes to every run. A run is kept in OUTPUT/runs/train, and one that is finished
is not repeated, so a stopped comparison goes on where it was.

Compared are the averaged weights after the last epoch, not the best, so that no run gains by
having more epochs to choose from: on the validation images as they are, and under the corruptions
of `rwkv-edge robustness`, since a clean validation set does not ask what a foreign camera will.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rwkv_edge.bench.timing import describe_machine
from rwkv_edge.training.augment import SHARES

RECIPE = "the recipe"
CLEAN, CORRUPTED = "clean Dice", "corrupted Dice"
RESULTS, LAST = "results.csv", "weights/last.safetensors"


def run(options: argparse.Namespace, change: str, seed: int) -> dict[str, float]:
    """Train, resume or read one run; return what it reached."""
    words = [] if change == RECIPE else shlex.split(change)
    name = "-".join([*re.findall(r"[\w.]+", change), f"seed{seed}"])
    folder = options.output / "runs" / "train" / name
    epochs = len(_rows(folder)) if (folder / LAST).is_file() else 0
    if epochs < options.epochs:
        fresh = ["--data", str(options.data), "--epochs", str(options.epochs)]
        fresh += ["--seed", str(seed), *options.train, *words]
        _call(options, "train", "--name", name, *(["--resume"] if epochs else fresh))
    reached = {CLEAN: float(_rows(folder)[-1]["val_dice"])}
    if options.robustness_images:
        found = folder / "robustness" / "robustness.json"
        if not found.is_file():
            limit = ["--limit", str(options.robustness_images)]
            where = ["--data", str(options.data), "--output", str(found.parent)]
            _call(options, "robustness", "--model", str(folder / LAST), *limit, *where)
        (result,) = json.loads(found.read_text())["data"].values()
        reached[CORRUPTED] = fmean(d for strengths in result["dice"].values() for d in strengths)
    return reached


def _call(options: argparse.Namespace, *words: str) -> None:
    command = [sys.executable, "-m", "rwkv_edge", *words]
    print(shlex.join(command), flush=True)
    subprocess.run(command, cwd=options.output, check=True)


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / RESULTS).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summarise(reached: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Compare each change with the recipe, seed by seed."""
    rows = []
    for change, runs in reached.items():
        row: dict[str, Any] = {"change": change}
        for figure in runs[0]:
            values = [run[figure] for run in runs]
            row[figure] = {"runs": values, "mean": fmean(values)}
            if change != RECIPE:
                recipe = [run[figure] for run in reached[RECIPE]]
                differences = [ours - theirs for ours, theirs in zip(values, recipe, strict=True)]
                row[figure]["difference"] = fmean(differences)
            else:
                differences = values
            several = len(differences) > 1
            row[figure]["error"] = stdev(differences) / len(values) ** 0.5 if several else None
        rows.append(row)
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    figures = [name for name in rows[0] if name != "change"]
    titles = ["change", *(title for name in figures for title in (name, "difference"))]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in rows:
        name = row["change"]
        cells = [name if name == RECIPE else f"`{name}`"]
        for figure in figures:
            found = row[figure]
            error = "" if found["error"] is None else f" ± {found['error']:.4f}"
            if "difference" in found:
                cells += [f"{found['mean']:.4f}", f"{found['difference']:+.4f}{error}"]
            else:
                cells += [f"{found['mean']:.4f}{error}", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="as rwkv-edge train takes it")
    parser.add_argument("--change", action="append", help="options of train; repeatable")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--robustness-images", type=int, default=25, help="0: clean Dice alone")
    parser.add_argument("--output", type=Path, default=Path("accuracy"))
    options = parser.parse_args(words[:cut])
    # the runs stand in another folder, where relative paths would lead elsewhere
    options.train = [str(Path(w).resolve()) if Path(w).exists() else w for w in words[cut + 1 :]]
    options.data, options.output = options.data.resolve(), options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    wanted = {"data": str(options.data), "epochs": options.epochs, "train": options.train}
    wanted["robustness images"] = options.robustness_images
    settings = options.output / "settings.json"
    if settings.is_file() and json.loads(settings.read_text()) != wanted:
        parser.error(f"{options.output} holds runs of other settings; choose another --output")
    settings.write_text(json.dumps(wanted, indent=1))
    reached: dict[str, list[dict[str, float]]] = {}
    for change in [RECIPE, *(options.change or [f"--without {name}" for name in SHARES])]:
        reached[change] = [run(options, change, seed) for seed in options.seeds]
        rows = summarise(reached)  # after every change: a cut-off loses little
        report = {"machine": describe_machine(), **wanted, "seeds": options.seeds, "rows": rows}
        (options.output / "accuracy.json").write_text(json.dumps(report, indent=1))
        (options.output / "accuracy.md").write_text(markdown(rows))
    print(markdown(rows), end="")


if __name__ == "__main__":
    main()
