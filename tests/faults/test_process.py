"""Rows 13 to 17: kills, signals, disks that are full or read-only, and awkward names."""

from __future__ import annotations

import fcntl
import resource
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from functools import partial
from pathlib import Path
from statistics import median

import av
import pytest

from tests.faults.processes import RATE, Stream, live, rates, write_stream


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stream(tmp_path_factory.mktemp("clip") / "long.mp4", 60, (240, 320))


def seconds_in(path: Path) -> float:
    """How much of a recording can be played, decoded to the end."""
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    return float(times[-1]) if times else 0.0


@pytest.fixture(scope="session")
def noisy_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise costs a recording some 100 kB a second."""
    path = tmp_path_factory.mktemp("clip") / "noisy.mp4"
    return write_stream(path, 20, (240, 320), noise=40)


def kill_while_recording(clip: Path, work: Path, after_s: float) -> float:
    """Return how many seconds of what was shown are lost."""
    folder = work / f"recorded-{after_s}"
    words = ["--record", str(folder), "--record-clean", "--record-free-mb", "1"]
    with Stream(str(clip), work, *words) as stream:
        stream.wait_for(lambda line: live(line) and line["recording"], 20)
        time.sleep(after_s)
        stream.send(signal.SIGKILL)
        stream.wait(5)
        shown = [line["time_s"] for line in stream.read()]
    files = sorted(folder.iterdir())
    assert [path.name.split("-")[1] for path in files] == ["clean.mp4", "overlay.mp4"]
    return max(shown[-1] - shown[0] - seconds_in(path) for path in files)


def test_a_kill_costs_a_recording_a_second_at_most(long_clip: Path, work: Path) -> None:
    assert kill_while_recording(long_clip, work, 4.3) <= 1


@pytest.mark.slow_fault
def test_fifty_kills(long_clip: Path, work: Path) -> None:
    losses = [kill_while_recording(long_clip, work, 2.5 + 0.05 * n) for n in range(50)]
    assert max(losses) <= 1, losses


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_everything_in_time(
    long_clip: Path, work: Path, number: signal.Signals
) -> None:
    folder = work / "recorded"
    words = ["--record", str(folder), "--record-free-mb", "1"]
    with Stream(str(long_clip), work, *words) as stream:
        stream.wait_for(lambda line: live(line) and line["recording"], 20)
        time.sleep(1)
        began = time.monotonic()
        stream.send(number)
        out, said = stream.output(15)
        took = time.monotonic() - began
        assert stream.child.returncode == 0, said
    assert took < 5
    assert "frames captured" in out  # the summary
    assert "Traceback" not in said
    (recorded,) = folder.iterdir()
    assert seconds_in(recorded) > 0.5
    # finished: one plain MP4 whose index follows the pictures, no longer fragments
    assert recorded.read_bytes()[48:52] == b"mdat"


def test_a_second_signal_ends_it_at_once(long_clip: Path, work: Path) -> None:
    """The first waits for a reader of standard output who has stopped reading."""
    with Stream(str(long_clip), work, "--json", "-") as stream:
        fill_pipe(stream)
        stream.send(signal.SIGTERM)
        time.sleep(1.5)
        assert stream.child.poll() is None  # it tries to hand over what waits
        began = time.monotonic()
        stream.send(signal.SIGTERM)
        assert stream.wait(10) == 128 + signal.SIGTERM
        assert time.monotonic() - began < 1


def fill_pipe(stream: Stream) -> None:
    """Read nothing until nothing more fits in."""
    assert stream.child.stdout is not None
    fcntl.fcntl(stream.child.stdout, fcntl.F_SETPIPE_SZ, 4096)
    seen, since, end = 0, time.monotonic(), time.monotonic() + 60
    while seen == 0 or time.monotonic() - since < 2:
        assert time.monotonic() < end
        time.sleep(0.1)
        waiting = struct.unpack("i", fcntl.ioctl(stream.child.stdout, termios.FIONREAD, b"1234"))
        if waiting[0] != seen:
            seen, since = waiting[0], time.monotonic()


def small_files(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def check_that_live_went_on(stream: Stream, said: str) -> None:
    assert stream.child.returncode == 0, said
    lines = stream.read()
    recording = [line["recording"] for line in lines]
    assert True in recording
    end = len(recording) - recording[::-1].index(True)
    after = lines[end:]
    assert len(after) > 30
    assert all(live(line) for line in after)
    before = min(RATE, median(rates(lines[:end])))  # above it, a start is made up for
    assert median(rates(after)) >= 0.95 * before


def test_a_disk_that_takes_no_more(noisy_clip: Path, work: Path) -> None:
    """The kernel refuses to let files grow, as it does on a full disk."""
    words = ["--record", str(work / "recorded"), "--record-free-mb", "0", "--max-seconds", "12"]
    limit = partial(small_files, 400_000)
    with Stream(str(noisy_clip), work, *words, preexec_fn=limit) as stream:
        check_that_live_went_on(stream, stream.output(40)[1])


@pytest.mark.slow_fault
def test_a_full_disk_of_two_megabytes(noisy_clip: Path, work: Path) -> None:
    mount = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], check=False).returncode:
        pytest.skip("no user namespaces here: no small disk can be mounted")
    disk = work / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=2m none "$1" && shift && exec "$@"'
    starter = [*mount, "sh", "-c", script, "sh", str(disk), sys.executable, "-m", "rwkv_edge"]
    words = ["--record", str(disk), "--record-clean", "--record-free-mb", "0"]
    words += ["--max-seconds", "12"]
    with Stream(str(noisy_clip), work, *words, starter=starter) as stream:
        check_that_live_went_on(stream, stream.output(60)[1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--record", "/proc/recorded"], "/proc/recorded"),
        (["--record", "{work}/cheap.onnx/recorded"], "cannot create"),
        (["--record", "{work}/r", "--record-free-mb", "1e12"], "make room"),
        (["--summary", "/proc/none/summary.json"], "cannot write"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_start(
    long_clip: Path, work: Path, words: list[str], message: str
) -> None:
    with Stream(str(long_clip), work, *(word.format(work=work) for word in words)) as stream:
        said = stream.output(20)[1]
        assert stream.child.returncode == 1
    assert message in said
    assert "streaming" not in said
    assert len(said.strip().splitlines()) == 1
    assert stream.read() == []


@pytest.mark.parametrize("name", ["-dash.mp4", "two words; rm -rf x.mp4", "zwölf\n$(id).mp4"])
def test_awkward_names(work: Path, name: str) -> None:
    clip = write_stream(work / "clip.mp4", 1, (240, 320)).rename(work / name)
    with Stream(str(clip), work) as stream:
        said = stream.output(30)[1]
        assert stream.child.returncode == 0, said
    assert any(live(line) for line in stream.read())


def test_options_from_a_file(work: Path) -> None:
    pytest.importorskip("tomllib", reason="--config needs Python 3.11")
    clip = write_stream(work / "clip.mp4", 1, (240, 320))
    config = work / "stream.toml"
    config.write_text(
        f'source = "{clip}"\nmodel = "{work}/cheap.onnx"\nheadless = true\n'
        f'crop-fov = false\nconf = 0.6\njson = "{work}/lines.jsonl"\nmax_seconds = 0.3\n'
    )
    words = [sys.executable, "-m", "rwkv_edge", "stream", "--config", str(config)]
    done = subprocess.run(
        [*words, "--max-seconds", "20"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = (work / "lines.jsonl").read_text().splitlines()
    assert len(lines) > 15  # the command line's seconds won
    for text, message in (
        ("sauce = 1", "no option 'sauce'"),
        ("conf = [1]", "single value"),
        ("conf = ", "not TOML"),
        ("conf = 'high'", "Invalid value for '--conf'"),
    ):
        config.write_text(f'source = "{clip}"\n{text}\n')
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr


def test_a_reader_who_has_seen_enough_ends_it(long_clip: Path, work: Path) -> None:
    words = [sys.executable, "-m", "rwkv_edge", "stream", "--headless", "--json", "-"]
    words += ["--source", str(long_clip), "--model", str(work / "cheap.onnx")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert '"LIVE"' in run.stdout.readline()
        run.stdout.close()
        said = run.stderr.read()
        assert run.wait(10) == 0
    assert "frames captured" in said
    assert "Broken" not in said
