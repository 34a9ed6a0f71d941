"""What tools/jetson says to a command line of ours, tried without a Jetson and without Docker."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from rwkv_edge.cli import main
from rwkv_edge.cli.app import app
from rwkv_edge.video.live import Controls
from rwkv_edge.web.hub import WebSink
from rwkv_edge.web.options import WebOptions
from rwkv_edge.web.server import WebServer

JETSON = Path(__file__).parents[2] / "tools" / "jetson"
ROOT = JETSON.parents[1]


def parse(words: list[str]) -> dict[str, Any]:
    """Have our parser read a command line; nothing runs."""
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]  # type: ignore[attr-defined]
    return dict(command.make_context("rwkv-edge", list(words)).params)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((JETSON / "compose.yaml").read_text()))


@pytest.fixture(scope="module")
def service(compose: dict[str, Any]) -> dict[str, Any]:
    return dict(compose["services"]["rwkv-edge"])


def commands_in(text: str, start: str) -> list[list[str]]:
    """Find the command lines that a comment tells people to type."""
    return [shlex.split(line) for line in re.findall(rf"^#\s+.*?{start} (.+)$", text, re.M)]


def test_every_command_of_the_compose_file_is_one(service: dict[str, Any]) -> None:
    options = parse(service["command"])
    assert options["source"] == "v4l2:///dev/video0"
    assert options["outside"].value == "black"
    assert options["host"] == "127.0.0.1"
    text = (JETSON / "compose.yaml").read_text()
    commented = re.findall(r"^      # - (--\S+)$", text, re.M)
    assert len(commented) == 5
    assert parse([*service["command"], *commented])["host"] == "0.0.0.0"
    once = commands_in(text, "run --rm rwkv-edge")
    assert [words[0] for words in once] == ["plugin", "build"]
    for words in once:
        parse(words)


def test_the_container_may_do_little(compose: dict[str, Any], service: dict[str, Any]) -> None:
    assert service["user"] not in ("", "0", "root")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "privileged" not in service
    assert service["restart"] == "always"
    assert int(service["logging"]["options"]["max-file"]) > 1
    assert service["logging"]["options"]["max-size"] == "10m"
    options = parse(service["command"])
    for name in service["secrets"]:
        assert name in compose["secrets"]
        assert Path(f"/run/secrets/{name}") in options.values()  # by file, never on the line
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {Path(s["file"]).parent.name for s in compose["secrets"].values()} == {"secrets"}
    assert "tools/jetson/secrets/" in ignored
    # what is written goes where something writable is mounted, owned by the user
    mounted = {volume.split(":")[1] for volume in service["volumes"]}
    dockerfile = (JETSON / "Dockerfile").read_text()
    assert f"--uid {service['user']}" in dockerfile
    for folder in mounted:
        assert folder in dockerfile


def test_the_health_check(service: dict[str, Any]) -> None:
    start, python, *words = service["healthcheck"]["test"]
    assert (start, Path(python).name) == ("CMD", "python")
    port = parse(service["command"])["port"]

    def check(where: int) -> int:
        command = [word.replace(f":{port}/", f":{where}/") for word in words]
        return subprocess.run([sys.executable, *command], check=False, timeout=30).returncode

    with WebServer(WebSink(), Controls(), WebOptions(port=0)) as server:
        assert check(server.port) == 0
    assert check(server.port) != 0


def test_the_image_holds_what_it_is_built_from() -> None:
    dockerfile = (JETSON / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", dockerfile, re.M):
        for path in line.split()[:-1]:
            assert (ROOT / path).exists(), path
            kept = (JETSON / "Dockerfile.dockerignore").read_text().split()
            assert f"!{path}" in kept, path
    extras = re.search(r"/src\[(.+?)\]", dockerfile)
    assert extras is not None
    project = (ROOT / "pyproject.toml").read_text()
    for extra in extras.group(1).split(","):
        assert f"\n{extra} = [" in project


def test_the_unit_starts_what_there_is(tmp_path: Path) -> None:
    unit = (JETSON / "rwkv-edge.service").read_text()
    line = re.search(r"^ExecStart=(.+)$", unit, re.M)
    assert line is not None
    program, *words = shlex.split(line.group(1))
    assert Path(program).name == "rwkv-edge"
    words = [word.replace("/etc/rwkv-edge", str(JETSON)) for word in words]
    pytest.importorskip("tomllib", reason="--config needs Python 3.11, or tomli")
    assert parse(words)["source"] == "rtsp://192.168.0.10/live"
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("no systemd-analyze: the unit is not verified")
    copy = tmp_path / "rwkv-edge.service"
    copy.write_text(unit.replace(program, sys.executable))
    result = subprocess.run([verify, "verify", copy], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_the_options_of_the_unit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("tomllib", reason="--config needs Python 3.11, or tomli")
    (tmp_path / "token").write_text("a-token-for-the-tests\n")
    words = ["serve", "--config", str(JETSON / "stream.toml"), "--source", "none.mp4"]
    with pytest.raises(SystemExit) as caught:
        main([*words, "--token-file", str(tmp_path / "token"), "--port", "0"])
    assert caught.value.code == 1
    assert "no such source: none.mp4" in capsys.readouterr().err  # every option was known
