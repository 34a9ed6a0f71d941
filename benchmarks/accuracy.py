"""What each ingredient of the augmentation is worth: the recipe with and without it, over seeds.

    python benchmarks/accuracy.py --data kvasir-seg --epochs 60 -- --imgsz 256 --progressive --amp

Every run is an ordinary `rwkv-edge train --without INGREDIENT`, kept in OUTPUT/runs/train; what
stands after `--` goes to it as it is. A run that is finished is not repeated, so a stopped
comparison goes on where it was. Compared is the validation Dice of the averaged weights after the
last epoch, not of the best, so that no run gains by having more epochs to choose from. `heavy` is
all that `--light` leaves out. Judge ingredients against a foreign camera (cast, veil, view) by
`rwkv-edge robustness` too: a clean validation set does not ask for them.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rwkv_edge.bench.timing import describe_machine
from rwkv_edge.training.augment import SHARES

FULL, HEAVY = "full recipe", "heavy"
_LEAVING_OUT = {FULL: [], HEAVY: ["--light"]}
RESULTS = "results.csv"


def train(options: argparse.Namespace, ingredient: str, seed: int) -> float:
    """Train, resume or read one run; return its last validation Dice."""
    name = f"{ingredient.replace(' ', '-')}-seed{seed}"
    folder = options.output / "runs" / "train" / name
    last = folder / "weights" / "last.safetensors"
    epochs = len(_rows(folder)) if last.is_file() else 0
    if epochs < options.epochs:
        command = [sys.executable, "-m", "rwkv_edge", "train", "--name", name]
        if epochs:
            command.append("--resume")
        else:
            command += ["--data", str(options.data), "--epochs", str(options.epochs)]
            command += ["--seed", str(seed), *options.train]
            command += _LEAVING_OUT.get(ingredient, ["--without", ingredient])
        print(" ".join(command), flush=True)
        subprocess.run(command, cwd=options.output, check=True)
    return float(_rows(folder)[-1]["val_dice"])


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / RESULTS).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summarise(dice: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Compare each ingredient with the full recipe, seed by seed."""
    rows = []
    for ingredient, values in dice.items():
        row: dict[str, Any] = {"left out": ingredient, "Dice": values, "mean": fmean(values)}
        row["spread"] = stdev(values) if len(values) > 1 else None
        if ingredient != FULL:
            gains = [full - without for full, without in zip(dice[FULL], values, strict=True)]
            row["gain"] = fmean(gains)
            row["gain error"] = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None
        rows.append(row)
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| left out | mean Dice | spread over seeds | what it brings |", "|---|---|---|---|"]
    for row in rows:
        spread = "" if row["spread"] is None else f"{row['spread']:.4f}"
        gain = "" if "gain" not in row else f"{row['gain']:+.4f}"
        if row.get("gain error") is not None:
            gain += f" ± {row['gain error']:.4f}"
        lines.append(f"| {row['left out']} | {row['mean']:.4f} | {spread} | {gain} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="as rwkv-edge train takes it")
    parser.add_argument("--ingredients", nargs="+", choices=[*SHARES, HEAVY], default=list(SHARES))
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("accuracy"))
    options = parser.parse_args(words[:cut])
    # the runs stand in another folder, where relative paths would lead elsewhere
    options.train = [str(Path(w).resolve()) if Path(w).exists() else w for w in words[cut + 1 :]]
    options.data, options.output = options.data.resolve(), options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    wanted = {"data": str(options.data), "epochs": options.epochs, "train": options.train}
    settings = options.output / "settings.json"
    if settings.is_file() and json.loads(settings.read_text()) != wanted:
        parser.error(f"{options.output} holds runs of other settings; choose another --output")
    settings.write_text(json.dumps(wanted, indent=1))
    dice: dict[str, list[float]] = {FULL: []}
    for ingredient in [FULL, *options.ingredients]:
        dice[ingredient] = [train(options, ingredient, seed) for seed in options.seeds]
        rows = summarise(dice)  # after every ingredient: a cut-off loses little
        report = {"machine": describe_machine(), "train": options.train, "rows": rows}
        (options.output / "accuracy.json").write_text(json.dumps(report, indent=1))
        (options.output / "accuracy.md").write_text(markdown(rows))
    print(markdown(rows), end="")


if __name__ == "__main__":
    main()
