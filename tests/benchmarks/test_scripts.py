"""Each script of benchmarks/ runs to its end on the least work there is; no time is judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERDICTS = ("below the bound", "below the range", "in the range", "above the range")


def run(folder: Path, *words: str) -> str:
    """Run one script from another folder, as a user may."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def script(folder: Path, name: str, *words: str) -> str:
    return run(folder, sys.executable, str(ROOT / "benchmarks" / name), *words)


@pytest.mark.slow
def test_scaling(tmp_path: Path) -> None:
    words = "--sides 32 256 --batches 2 --channels 32 --rounds 3 --threads 1"
    out = script(
        tmp_path, "scaling.py", *words.split(), "--json", "scaling.json", "--plot", "scaling.png"
    )
    found = json.loads((tmp_path / "scaling.json").read_text())
    assert [row["tokens"] for row in found["by_size"]] == [16, 16, 1024, 1024]
    assert [row["batch"] for row in found["by_batch"]] == [2, 2]
    assert all(row["p50_ms"] > 0 for row in found["by_size"])
    assert found["by_size"][-2]["mib"] > 0.1  # bi-WKV on 1024 tokens
    assert "latency grows as tokens^" in out
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


@pytest.mark.slow
def test_backends(tmp_path: Path) -> None:
    out = script(
        tmp_path, "backends.py", "--imgsz", "32", "--rounds", "3", "--json", "backends.json"
    )
    found = json.loads((tmp_path / "backends.json").read_text())
    names = ("Tiny, as trained", "Tiny, folded", "U-Net")
    assert {f"{name} | ONNX Runtime fp32" for name in names} <= set(found["times"])
    interval = found["ratios"]["ONNX Runtime fp32: Tiny, folded / U-Net"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    assert "'Tiny, folded' takes" in out


@pytest.mark.slow
def test_estimate_validation(tmp_path: Path) -> None:
    words = ("--smoke", "--rounds", "3", "--threads", "1", "--cpu-time")
    files = ("--json", "found.json", "--markdown", "found.md")
    script(tmp_path, "estimate_validation.py", *words, *files)
    rows = json.loads((tmp_path / "found.json").read_text())["graphs"]
    assert [row["graph"] for row in rows] == ["tiny 32", "unet 32"]
    for row in rows:
        assert 0 < row["bound_ms"] <= row["likely_low_ms"] <= row["likely_high_ms"]
        assert row["verdict"] in VERDICTS
    assert len((tmp_path / "found.md").read_text().splitlines()) == 4


@pytest.mark.slow
def test_rwkv_block_unet(tmp_path: Path) -> None:
    words = (
        "--images 4 --test-images 3 --side 32 --width 4 --steps 2 --batch 2 --seeds 2 --rounds 10"
    )
    out = script(tmp_path, "rwkv_block_unet.py", *words.split(), "--json", "block.json")
    found = json.loads((tmp_path / "block.json").read_text())
    assert [len(runs) for runs in found["dice"].values()] == [2, 2]
    assert 0 < found["p"] <= 1
    assert "Dice with the block minus without: " in out


@pytest.mark.slow
def test_accuracy(tmp_path: Path, disc_data: Path) -> None:
    words = ["--data", str(disc_data), "--change=--without paste"]
    words += ["--epochs", "1", "--seeds", "0", "1", "--robustness-images", "1"]
    words += ["--", "--variant", "unet", "--imgsz", "32", "--batch", "2", "--device", "cpu"]
    first = script(tmp_path, "accuracy.py", *words)
    assert first.count("rwkv_edge train") == first.count("rwkv_edge robustness") == 4
    assert first.count("--device cpu --without paste") == 2
    rows = json.loads((tmp_path / "accuracy" / "accuracy.json").read_text())["rows"]
    assert [row["change"] for row in rows] == ["the recipe", "--without paste"]
    recipe, without = (row["clean Dice"] for row in rows)
    assert without["difference"] == pytest.approx(sum(without["runs"]) / 2 - recipe["mean"])
    assert 0 <= rows[0]["corrupted Dice"]["mean"] <= 1
    again = script(tmp_path, "accuracy.py", *words)
    assert "rwkv_edge" not in again
    assert again == first[first.index("| change |") :]


def jetson(folder: Path, *words: str) -> list[str]:
    return run(folder, "bash", str(ROOT / "benchmarks" / "jetson.sh"), *words).splitlines()


@pytest.mark.slow
def test_slice_levels(tmp_path: Path) -> None:
    words = "--train 4 --test 3 --epochs 1 --json levels.json"
    script(tmp_path, "slice_levels.py", *words.split())
    found = json.loads((tmp_path / "levels.json").read_text())
    assert found["slices"] == 3
    assert 0 <= found["changed_pixels"] < 0.5
    assert abs(found["dice_floats"] - found["dice_bytes"]) <= found["largest_change_of_dice"]


def test_jetson_dry_run_restores_what_it_changes(tmp_path: Path) -> None:
    words = ("--modes", "0 2", "--precisions", "fp16 int8", "--calib", "my images")
    lines = [line.strip() for line in jetson(tmp_path, "--dry-run", *words)]
    assert lines[0].startswith("sudo jetson_clocks --store")
    assert [line for line in lines if "nvpmodel" in line] == [
        "sudo nvpmodel -m 0",
        "sudo nvpmodel -m 2",
        "sudo nvpmodel -m MODE_BEFORE",
    ]
    assert lines[-1].startswith("sudo jetson_clocks --restore")
    assert lines.count("sudo jetson_clocks") == 2
    builds = [line for line in lines if "rwkv-edge build" in line]
    assert len(builds) == 2
    assert all("my\\ images" in line for line in builds)
    for line in lines:
        if line.startswith("rwkv-edge benchmark"):
            assert line.count("--model") == 2
    assert not list(tmp_path.iterdir())  # nothing was run


def test_every_command_of_the_dry_run_exists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rwkv_edge.cli import main

    for line in jetson(tmp_path, "--dry-run"):
        words = line.split()
        if words[0] != "rwkv-edge":
            continue
        with pytest.raises(SystemExit):
            main([words[1], "--help"])
        shown = capsys.readouterr().out
        assert all(word in shown for word in words if word.startswith("--"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precisions", "fp8"], "unknown precision fp8"),
        (["--precisions", "int8"], "int8 needs --calib"),
        (["--output"], "--output needs a value"),
        (["--fast"], "unknown option --fast"),
    ],
)
def test_jetson_usage(words: list[str], message: str, tmp_path: Path) -> None:
    command = ["bash", str(ROOT / "benchmarks" / "jetson.sh"), "--dry-run", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr


def test_jetson_changes_nothing_elsewhere(tmp_path: Path) -> None:
    command = ["bash", str(ROOT / "benchmarks" / "jetson.sh")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is this a Jetson?" in done.stderr
    assert not list(tmp_path.iterdir())


def test_jetson_measures_in_the_mode_that_is_set_even_where_none_can_be(tmp_path: Path) -> None:
    """nvpmodel has been seen to want a reboot for the mode that a board is in, too."""
    tools = {
        "sudo": 'exec "$@"',
        "nvpmodel": '[ "$1" = -q ] && printf "NV Power Mode: 15W\\n2\\n"',
        "jetson_clocks": "exit 0",
        "sleep": "exit 0",
        "rwkv-edge": '[ "$1" = build ] || { mkdir -p "$3"; echo "{}" >"$3/benchmark.json"; }',
    }
    (tmp_path / "bin").mkdir()
    for name, body in tools.items():
        tool = tmp_path / "bin" / name
        tool.write_text(f"#!/bin/sh\n{body}\n")
        tool.chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "jetson.sh"), "--modes", "0 2"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "left out: power mode 0 needs a reboot or is not there\n"
    results = tmp_path / "jetson-benchmark"
    assert sorted(path.name for path in results.iterdir()) == ["jetson.json", "mode-2"]


@pytest.mark.slow
def test_fusion_candidates(tmp_path: Path) -> None:
    out = script(tmp_path, "fusion_candidates.py")
    assert "| q-shift and its mixes | 5 |" in out
    rows = [line.split("|") for line in out.splitlines() if " MB (" in line]
    assert len(rows) == 4
    sizes = [[float(cell.split()[0]) for cell in row[3:5]] for row in rows]
    assert all(before >= after for before, after in sizes)
    assert sizes[0][0] > 2 * sizes[0][1]
