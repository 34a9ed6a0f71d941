from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rwkv_edge import compiler
from rwkv_edge.errors import BackendError


def test_a_changed_source_has_another_place(tmp_path: Path) -> None:
    shutil.copytree(compiler.sources_folder(), tmp_path / "plugins")
    before = compiler.sources_sha256(tmp_path / "plugins")
    assert before == compiler.sources_sha256()
    with (tmp_path / "plugins" / "examples" / "segment.cpp").open("a") as file:
        file.write("\n")
    assert before == compiler.sources_sha256(tmp_path / "plugins"), "examples are not the plugin"
    for name in ("bi_wkv/bi_wkv_kernel.h", "common/launch.h", "shift_mix/shift_mix_kernel.cu"):
        with (tmp_path / "plugins" / name).open("a") as file:
            file.write("\n")
        changed = compiler.sources_sha256(tmp_path / "plugins")
        assert changed != before
        before = changed


def test_no_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiler, "_SOURCE_FOLDERS", (tmp_path,))
    with pytest.raises(BackendError, match="lacks the plugin's sources"):
        compiler.sources_folder()


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            "a.cu(7): error: expected ;\nnoise\nfatal error: x.h",
            "a.cu(7): error: expected ; | fatal",
        ),
        ("\nkilled\n", "killed"),
        ("", "no reason given"),
    ],
)
def test_a_failure_is_one_line(output: str, reason: str) -> None:
    assert compiler.failure(output).startswith(reason)
    assert "\n" not in compiler.failure(output)
