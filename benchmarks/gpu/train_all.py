"""Train several networks within a time: profile a step of each first, then all at once if they fit.

    python benchmarks/gpu/train_all.py --data kvasir-seg --extra synthetic --minutes 20

Every run is an ordinary `rwkv-edge train`, in DIR/runs/train/NAME; its table, curves and float16
weights are renewed after every epoch of some ten seconds, so a cut-off loses little.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from measure import make_parser, open_device, write_report

from rwkv_edge.data.pairs import find_pairs, load_dataset

HERE = Path(__file__).resolve().parent
SECONDS_AN_EPOCH = 10
ROOM = 0.85
"""Of the GPU's free memory: what runs side by side may take."""
FLAGS = {
    "plain": [],
    "cuda graph": ["--cuda-graph"],
    "compile": ["--compile"],
    "compile, cuda graph": ["--compile", "--cuda-graph"],
}


@dataclass(frozen=True)
class Plan:
    """How to train one network."""

    variant: str
    flags: list[str]
    images_a_second: float
    gib: float


def make_discs(folder: Path) -> Path:
    """A data set for the dry run: bright discs."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("validation", 2)):
        for part in ("images", "masks"):
            (folder / split / part).mkdir(parents=True)
        for index in range(count):
            mask = np.zeros((32, 32), np.uint8)
            cv2.circle(mask, (16, 16), int(rng.integers(5, 12)), 255, -1)
            image = np.repeat((mask // 2 + 60)[..., None], 3, 2)
            cv2.imwrite(str(folder / split / "images" / f"{index}.png"), image)
            cv2.imwrite(str(folder / split / "masks" / f"{index}.png"), mask)
    return folder


def make_plan(variant: str, batch: int, imgsz: int, output: Path) -> Plan:
    """Profile a step in a process of its own and pick the fastest way that works."""
    command = [sys.executable, str(HERE / "profile_step.py"), "--variant", variant]
    command += ["--batch", str(batch), "--imgsz", str(imgsz), "--output", str(output)]
    subprocess.run(command, check=True)
    rows = json.loads((output / f"step-{variant}.json").read_text())["rows"]
    best = max((row for row in rows if "error" not in row), key=lambda row: row["images/s"])
    print(f"{variant}: {best['way']}, {best['images/s']:.0f} images a second")
    return Plan(variant, FLAGS[best["way"]], best["images/s"], best["peak GiB"])


def train_command(plan: Plan, options: Any, minutes: float, repeat: int) -> list[str]:
    """The command line of one run."""
    command = [sys.executable, "-m", "rwkv_edge", "train", "--data", str(options.data)]
    for folder in options.extra:
        command += ["--extra", str(folder)]
    command += ["--variant", plan.variant, "--name", f"{plan.variant}-seed{options.seed}"]
    command += ["--minutes", f"{minutes:.3f}", "--repeat", str(repeat), "--seed", str(options.seed)]
    command += [
        "--batch",
        str(options.batch),
        "--imgsz",
        str(options.imgsz),
        "--lr",
        str(options.lr),
    ]
    return [*command, "--amp", *plan.flags]


def read_result(folder: Path) -> dict[str, Any]:
    """Best validation Dice of a run so far."""
    table = folder / "results.csv"
    if not table.is_file():
        return {"error": "no epoch was finished"}
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    full = [row for row in rows if row["imgsz"] == rows[-1]["imgsz"]]
    best = max(full, key=lambda row: float(row["val_dice"]))
    return {
        "val Dice": float(best["val_dice"]),
        "epoch": f"{best['epoch']} of {len(rows)}",
        "minutes": sum(float(row["seconds"]) for row in rows) / 60,
        "weights": str(folder / "weights" / "best-fp16.safetensors"),
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, help="data set, as rwkv-edge train takes it")
    parser.add_argument("--extra", type=Path, nargs="*", default=[], help="further pairs")
    parser.add_argument("--variants", nargs="+", default=["tiny", "small", "unet"])
    parser.add_argument("--minutes", type=float, default=20.0, help="for everything together")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--imgsz", type=int, default=256)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one-by-one", action="store_true", help="even if the GPU has room")
    options = parser.parse_args()
    begun = time.monotonic()
    device = open_device(options.dry_run)
    scratch = tempfile.TemporaryDirectory()  # of a dry run
    options.output = Path(scratch.name) if options.dry_run else options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.dry_run:
        options.data, options.imgsz, options.batch = make_discs(options.output / "discs"), 32, 2
        options.minutes = min(options.minutes, 0.1)
        plans = [Plan(variant, ["--device", "cpu"], 1.0, 0.0) for variant in options.variants]
        together = False
    else:
        if options.data is None:
            parser.error("--data is missing")
        options.data = options.data.resolve()
        options.extra = [folder.resolve() for folder in options.extra]
        plans = [
            make_plan(variant, options.batch, options.imgsz, options.output)
            for variant in options.variants
        ]
        free, _ = torch.cuda.mem_get_info(device)
        together = not options.one_by_one and sum(p.gib for p in plans) < ROOM * free / 2**30
    pictures = len(load_dataset(options.data).pairs("train", "all"))
    pictures += sum(len(find_pairs(folder)) for folder in options.extra)
    left = options.minutes - (0 if options.dry_run else (time.monotonic() - begun) / 60)
    if left <= 0:
        sys.exit(f"error: profiling took all of --minutes {options.minutes:g}")
    sharing = len(plans) if together else 1
    minutes = left if together else left / len(plans)
    print(
        f"{len(plans)} runs, {'side by side' if together else 'one by one'}, {minutes:.1f} min each"
    )
    runs = []
    for plan in plans:
        repeat = max(1, round(plan.images_a_second / sharing * SECONDS_AN_EPOCH / pictures))
        command = train_command(plan, options, minutes, repeat)
        print(" ".join(command), flush=True)
        log = (options.output / f"train-{plan.variant}.log").open("w")
        run = subprocess.Popen(command, cwd=options.output, stdout=log, stderr=subprocess.STDOUT)
        runs.append(run)
        if not together:
            run.wait()
    codes = [run.wait() for run in runs]
    rows = []
    for plan, code in zip(plans, codes, strict=True):
        name = f"{plan.variant}-seed{options.seed}"
        result = read_result(options.output / "runs" / "train" / name)
        flags = " ".join(["--amp", *plan.flags])
        rows.append({"variant": plan.variant, "flags": flags, "exit": code, **result})
    write_report(options, "train", rows)
    if any(codes):
        sys.exit(f"error: a run failed; see {options.output}/train-*.log")


if __name__ == "__main__":
    main()
