"""Jetson and system: read from trees of files, as on an Orin and as on machines that lack them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rwkv_edge.doctor import Finding, jetson, media, system
from tests.doctor.orin import write_orin


def told(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_an_orin_with_jetpack(tmp_path: Path) -> None:
    root = write_orin(tmp_path)
    packages = told(jetson.jetpack(root))
    assert packages["Jetson Linux"] == Finding("Jetson Linux", "ok", "36.4.3")
    assert packages["JetPack"] == Finding("JetPack", "ok", "6.2+b77")
    power = told(jetson.power(root))
    assert power["Power mode"] == Finding("Power mode", "ok", "MAXN_SUPER")
    assert power["Clocks"].reason.startswith("locked")
    assert power["CPU governor"].reason == "schedutil"
    machine = told(system.machine(root))
    assert machine["Machine"].reason.startswith("NVIDIA Jetson Orin Nano Engineering Reference")
    assert "\0" not in machine["Machine"].reason
    assert machine["System"].reason.startswith("Ubuntu 22.04.5 LTS")
    assert told(system.temperature(root))["Temperature"].reason == "54 degrees at most (tj-thermal)"
    assert told(system.memory(root))["Memory"].reason == "5.0 of 7.4 GiB free"
    assert told(media.cameras(root))["video0"].reason == "vi-output, imx219 9-0010, can be opened"


@pytest.mark.parametrize(
    ("look", "changes", "name", "status", "words", "mend"),
    [
        (
            jetson.jetpack,
            {"etc__nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178\n"},
            "Jetson Linux",
            "problem",
            "35.4.1 is older than JetPack 6.1",
            "install JetPack 6.1",
        ),
        (
            jetson.jetpack,
            {"etc__nv_tegra_release": None},
            "Jetson Linux",
            "warning",
            "does not say",
            "nvidia",
        ),
        (
            jetson.jetpack,
            {"dpkg__status": "Package: nvidia-jetpack\nStatus: deinstall ok config-files\n"},
            "JetPack",
            "warning",
            "not installed",
            "sudo apt install nvidia-jetpack",
        ),
        (
            jetson.power,
            {"nvpmodel__status": "pmode:0001"},
            "Power mode",
            "warning",
            "25W, of which MAXN_SUPER is faster",
            "sudo nvpmodel -m 2",
        ),
        (jetson.power, {"nvpmodel__status": None}, "Power mode", "ok", "not known", "nvpmodel -q"),
        (
            jetson.power,
            {"17000000_gpu__min_freq": "306000000\n"},
            "Clocks",
            "warning",
            "timings vary",
            "sudo jetson_clocks",
        ),
        (
            system.temperature,
            {"thermal_zone0__temp": "96000\n"},
            "Temperature",
            "warning",
            "cpu-thermal is at 96 degrees, it is slowed down from 99",
            "cool",
        ),
        (
            system.memory,
            {"proc__meminfo": "MemTotal: 7802416 kB\nMemAvailable: 500000 kB\n"},
            "Memory",
            "warning",
            "0.5 of 7.4 GiB free",
            "swap",
        ),
    ],
)
def test_an_orin_with_something_amiss(
    look: Callable[[Path], Iterator[Finding]],
    changes: dict[str, str | None],
    name: str,
    status: str,
    words: str,
    mend: str,
    tmp_path: Path,
) -> None:
    finding = told(look(write_orin(tmp_path, **changes)))[name]
    assert finding.status == status
    assert words in finding.reason
    assert mend in finding.mend


def test_a_machine_that_is_no_jetson(tmp_path: Path) -> None:
    assert list(jetson.jetpack(tmp_path)) == []
    assert list(jetson.power(tmp_path)) == []
    assert told(system.temperature(tmp_path))["Temperature"].status == "ok"
    assert told(media.cameras(tmp_path))["Cameras"].reason.startswith("none")
    assert told(system.machine(tmp_path))["System"].status == "ok"


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    found = told(system.disk(file / "cache", file))
    assert found["Cache"].status == "problem"
    assert "XDG_CACHE_HOME" in found["Cache"].mend
    assert found["Working folder"].status == "warning"
    good = told(system.disk(tmp_path / "not" / "yet", tmp_path))
    assert "can be written" in good["Cache"].reason
    assert list(tmp_path.iterdir()) == [file]


def test_cameras_in_order_and_broken_ones(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "video10").touch()
    (tmp_path / "dev" / "video2").mkdir()
    found = list(media.cameras(tmp_path))
    assert [finding.name for finding in found] == ["video2", "video10"]
    assert [finding.status for finding in found] == ["warning", "ok"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_camera_of_another_group(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "video0").touch(mode=0)
    (found,) = media.cameras(tmp_path)
    assert found.status == "warning"
    assert "sudo usermod -aG" in found.mend
