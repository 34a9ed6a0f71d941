from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from rwkv_edge.errors import OutputError
from rwkv_edge.files import (
    atomic_path,
    check_writable,
    make_folder,
    new_run_folder,
    write_image,
    write_json,
    write_text,
)


@pytest.fixture
def below_a_file(tmp_path: Path) -> Path:
    """A folder that nobody can create, not even root."""
    (tmp_path / "file").write_text("in the way")
    return tmp_path / "file" / "folder"


class TestAtomicPath:
    def test_whole(self, tmp_path: Path) -> None:
        target = tmp_path / "new" / "a.txt"
        with atomic_path(target) as temporary:
            assert temporary.parent == target.parent
            assert temporary.suffix == ".txt"
            temporary.write_text("x")
            assert not target.exists()
        assert target.read_text() == "x"
        assert os.listdir(target.parent) == ["a.txt"]

    def test_or_not_at_all(self, tmp_path: Path) -> None:
        target = tmp_path / "a.txt"
        target.write_text("old")

        def write_half(path: Path) -> None:
            path.write_text("half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
            write_half(temporary)
        assert target.read_text() == "old"
        assert os.listdir(tmp_path) == ["a.txt"]

    def test_permissions_follow_the_umask(self, tmp_path: Path) -> None:
        mask = os.umask(0o027)
        try:
            with atomic_path(tmp_path / "a.txt") as temporary:
                temporary.unlink()  # as libraries do that replace files themselves
                temporary.touch(mode=0o600)
        finally:
            os.umask(mask)
        assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640

    def test_a_full_disk_is_an_output_error(self, tmp_path: Path) -> None:
        with (
            pytest.raises(OutputError, match=r"a\.txt: No space left on device"),
            atomic_path(tmp_path / "a.txt"),
        ):
            raise OSError(28, "No space left on device")
        assert os.listdir(tmp_path) == []

    def test_a_folder_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").mkdir()
        with pytest.raises(OutputError, match=r"cannot write .*a\.txt"):
            write_text(tmp_path / "a.txt", "x")
        assert os.listdir(tmp_path) == ["a.txt"]

    def test_unwritable(self, below_a_file: Path) -> None:
        with pytest.raises(OutputError, match="Not a directory; choose another folder"):
            write_text(below_a_file / "a.txt", "x")


class TestFolders:
    def test_make(self, tmp_path: Path) -> None:
        assert make_folder(tmp_path / "a" / "b").is_dir()
        make_folder(tmp_path / "a" / "b")
        assert os.listdir(tmp_path / "a" / "b") == []

    def test_make_on_a_file(self, below_a_file: Path) -> None:
        with pytest.raises(OutputError, match=r"cannot create .*file: File exists"):
            make_folder(below_a_file.parent)

    def test_check_leaves_nothing(self, tmp_path: Path) -> None:
        check_writable(tmp_path / "a" / "b")
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("part", ["", "..", "deeper/still"])
    def test_check_refuses(self, below_a_file: Path, part: str) -> None:
        folder = below_a_file.parent if part == ".." else below_a_file / part
        with pytest.raises(OutputError, match=r"cannot write into .*: Not a directory"):
            check_writable(folder)

    def test_runs_are_numbered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert new_run_folder("eval") == Path("runs/eval/exp")
        assert new_run_folder("eval") == Path("runs/eval/exp2")
        assert new_run_folder("eval") == Path("runs/eval/exp3")
        assert new_run_folder("run") == Path("runs/run/exp")
        assert new_run_folder("eval", "tiny") == Path("runs/eval/tiny")
        assert Path("runs/eval/exp3").is_dir()

    def test_runs_that_cannot_be(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("runs").write_text("in the way")
        with pytest.raises(OutputError, match="cannot create runs/eval"):
            new_run_folder("eval")


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    name = b"\xe9.png".decode("utf-8", "surrogateescape")
    write_json(tmp_path / "x.json", {"image": name})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"image": name}


def test_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"é": [1, 2.5]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"é": [1, 2.5]}


class TestImages:
    def test_round_trip(self, tmp_path: Path) -> None:
        picture = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
        write_image(tmp_path / "a.png", picture)
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png")), picture)

    @pytest.mark.parametrize("name", ["a.txt", "a"])
    def test_no_picture_format(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(OutputError, match="is not a picture format"):
            write_image(tmp_path / name, np.zeros((8, 8), np.uint8))
