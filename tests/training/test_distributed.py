"""Two real processes, as torchrun starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rwkv_edge.errors import UsageError
from rwkv_edge.training import Processes
from tests.training.test_loop import read_rows
from tests.training.updates import update

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2")
COMMAND = ("-m", "rwkv_edge")
ROOT = Path(__file__).parents[2]
LONGEST = 240
"""Seconds until a run counts as hanging; it takes ten on an idle machine."""


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*TORCHRUN, *words], cwd=folder, env=environment, **pipes)


def finish(folder: Path, *words: str) -> tuple[int, str]:
    """Run to the end; return the exit code and all that was printed."""
    with start(folder, *words) as process:
        try:
            printed, _ = process.communicate(timeout=LONGEST)
        finally:
            process.kill()
    return process.returncode, printed


def train_words(data: Path) -> list[str]:
    words = f"train --data {data} --imgsz 32 --batch 4 --epochs 2 --seed 3 --device cpu"
    return [*COMMAND, *words.split()]


def errors(printed: str) -> list[str]:
    """The lines that are ours; torchrun adds a report of its own."""
    return [line for line in printed.splitlines() if line.startswith("error:")]


@pytest.fixture(scope="module")
def finished(disc_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing interrupted."""
    folder = tmp_path_factory.mktemp("two")
    code, printed = finish(folder, *train_words(disc_data))
    assert code == 0, printed
    lines = printed.splitlines()
    starts = [line.split("  ")[0] for line in lines if "images/s" in line]
    assert starts == ["epoch 1/2", "epoch 2/2"], "each is printed once"
    assert printed.count("bi-WKV: ") == printed.count("best weights: ") == 1
    return folder / "runs" / "train" / "exp"


@pytest.mark.slow
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    """Losses, gradients and statistics; with whole batches, and with accumulated parts."""
    code, printed = finish(tmp_path, str(Path(__file__).with_name("updates.py")), str(tmp_path))
    assert code == 0, printed
    for accumulate in (1, 2):
        alone = update(Processes(), accumulate)
        first, second = (
            load_file(tmp_path / f"{accumulate}-{rank}.safetensors") for rank in range(2)
        )
        for name, expected in alone.items():
            assert torch.equal(first[name], second[name]), name
            error = 1e-6 if name == "losses" else 1e-12  # a loss is float32
            largest = float(expected.abs().max())
            torch.testing.assert_close(first[name], expected, rtol=0, atol=error * largest)
        assert alone["losses"][-1] < alone["losses"][0]


@pytest.mark.slow
def test_a_run_is_whole(finished: Path) -> None:
    rows = read_rows(finished)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert {path.name for path in (finished / "weights").iterdir()} == {
        "best.safetensors",
        "best-fp16.safetensors",
        "last.safetensors",
    }


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_it_resumes_to_the_bit(
    finished: Path, disc_data: Path, tmp_path: Path
) -> None:
    with start(tmp_path, *train_words(disc_data)) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.startswith("epoch 1/2") and "images/s" in line:
                break
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        try:
            printed.append(process.communicate(timeout=LONGEST)[0])
        finally:
            process.kill()
    assert process.returncode == 1, printed
    assert "SIGKILL" in printed[-1]
    assert len(errors(printed[-1])) <= 1  # torchrun may end the other before it notices
    resume = (*COMMAND, "train", "--resume")
    code, output = finish(tmp_path, *resume)
    assert code == 0, output
    assert not [line for line in output.splitlines() if "1/2" in line and "images/s" in line]
    for name in ("best", "best-fp16", "last"):
        path = f"weights/{name}.safetensors"
        resumed = tmp_path / "runs" / "train" / "exp" / path
        assert resumed.read_bytes() == (finished / path).read_bytes(), name


@pytest.mark.slow
def test_a_failure_of_one_is_told_once_and_ends_all(disc_data: Path, tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("failing.py"))
    code, printed = finish(tmp_path, script, *train_words(disc_data)[len(COMMAND) :])
    assert code == 1
    assert errors(printed) == ["error: the disk of this process is gone"]
    assert printed.count("Traceback") == 1, "torchrun's own"
    assert "exitcode  : 1 " in printed


@pytest.mark.slow
def test_wrong_usage_is_told_once(disc_data: Path, tmp_path: Path) -> None:
    code, printed = finish(tmp_path, *train_words(disc_data), "--batch", "3")
    assert code == 1, "torchrun's own"
    assert errors(printed) == [
        "error: --batch 3 cannot be shared evenly by 2 processes with --accumulate 1; "
        "give a multiple of 2"
    ]
    assert "exitcode  : 2 " in printed
    assert not (tmp_path / "runs").exists()


def test_devices_of_several_processes() -> None:
    two = Processes(1, 2, 1, 2)
    assert two.pick_device("cpu").type == "cpu"
    with pytest.raises(UsageError, match="several processes take cpu or cuda"):
        two.pick_device("cuda:0")
    if torch.cuda.device_count() < 2:
        with pytest.raises(UsageError, match="2 processes want a GPU each; there are"):
            two.pick_device("cuda")


def test_one_process_draws_what_it_always_drew() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Processes().diverge()
    assert torch.equal(torch.rand(3), expected)


def test_processes_draw_different_but_repeatable_numbers() -> None:
    def draw(rank: int) -> list[float]:
        torch.manual_seed(1)
        Processes(rank, 3).diverge()
        return torch.rand(3).tolist()

    drawn = [draw(rank) for rank in range(3)]
    assert drawn == [draw(rank) for rank in range(3)]
    assert len({values[0] for values in drawn}) == 3


def test_a_batch_is_shared_without_rest() -> None:
    batch = torch.arange(12)
    shares = [Processes(rank, 3).share(batch) for rank in range(3)]
    assert torch.cat(shares).tolist() == batch.tolist()
    assert {len(share) for share in shares} == {4}
