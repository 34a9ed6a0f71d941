from __future__ import annotations

import errno
import zipfile
from pathlib import Path

import pytest

from rwkv_edge.data import archive
from rwkv_edge.data.archive import unpack_pairs
from rwkv_edge.data.pairs import find_pairs
from rwkv_edge.errors import DataError, OutputError
from tests.data.archives import pairs, write_zip


@pytest.mark.parametrize(
    ("root", "masks"), [("Kvasir-SEG/", "masks"), ("", "masks"), ("a/b/", "Ground Truth")]
)
def test_pairs_wherever_they_lie(tmp_path: Path, root: str, masks: str) -> None:
    path = write_zip(tmp_path / "a.zip", pairs(root, masks))
    assert unpack_pairs(path, tmp_path / "out") == 2
    assert [pair.name for pair in find_pairs(tmp_path / "out")] == ["a.png", "b.png"]
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert len(files) == 4  # nothing but pictures


@pytest.mark.parametrize(
    "name",
    ["../evil.png", "images/../../evil.png", "/tmp/evil.png", "..\\evil.png", "C:\\evil.png", "."],
)
def test_paths_that_lead_outside(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "a.zip", {**pairs(), name: b"evil"})
    with pytest.raises(DataError, match=r"a\.zip: .*would be written outside the folder"):
        unpack_pairs(path, tmp_path / "deep" / "out")
    assert [file.name for file in tmp_path.rglob("*")] == ["a.zip"]


def test_links(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", pairs(), link="Kvasir-SEG/images/c.png")
    with pytest.raises(DataError, match="is a link or a device; not unpacked"):
        unpack_pairs(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "a.zip", pairs())
    monkeypatch.setattr(archive, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack_pairs(path, tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack_pairs(path, tmp_path / "out")


def test_an_archive_that_lies_about_its_sizes(tmp_path: Path) -> None:
    """The header says less than what comes: a bomb, or damage."""
    path = write_zip(tmp_path / "a.zip", {"images/a.png": bytes(5000), "masks/a.png": b"x"})
    content = path.read_bytes()
    true, lie = (5000).to_bytes(4, "little"), (5).to_bytes(4, "little")
    directory = content.index(b"PK\1\2")
    uncompressed = content.index(true, content.index(true, directory) + 4)
    path.write_bytes(content[:uncompressed] + lie + content[uncompressed + 4 :])
    with pytest.raises(DataError, match=r"a\.zip: .*Bad CRC"):
        unpack_pairs(path, tmp_path / "out")
    assert all(file.stat().st_size <= 5 for file in (tmp_path / "out/images").iterdir())


@pytest.mark.parametrize("content", [b"", b"Rar!\x1a\x07\x01\x00", b"PK\3\4"])
def test_not_a_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.rar").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.rar: not a zip archive, or damaged"):
        unpack_pairs(tmp_path / "a.rar", tmp_path / "out")


def test_a_damaged_member(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", pairs())
    content = bytearray(path.read_bytes())
    content[200] ^= 255  # in the first picture
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip: not a zip archive, or damaged \(Bad CRC"):
        unpack_pairs(path, tmp_path / "out")


@pytest.mark.parametrize("compression", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_member_of_other_compressions(tmp_path: Path, compression: int) -> None:
    path = write_zip(tmp_path / "a.zip", pairs(), compression=compression)
    content = bytearray(path.read_bytes())
    content[60:120] = bytes(range(195, 255))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip: not a zip archive, or damaged \(.+\)"):
        unpack_pairs(path, tmp_path / "out")


def test_names_that_claim_to_be_utf8(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {**pairs(), "images/\u00e9.png": b""})
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xff\xff"))
    with pytest.raises(DataError, match=r"a\.zip: not a zip archive, or damaged \('utf-8'"):
        unpack_pairs(path, tmp_path / "out")


def test_a_name_twice(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {**pairs(""), "images\\a.png": b"another"})
    with pytest.raises(DataError, match=r"a\.zip: holds images/a\.png 2 times"):
        unpack_pairs(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, mode: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    path = write_zip(tmp_path / "a.zip", pairs())
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OutputError, match=r"cannot write .*out: No space left on device"):
        unpack_pairs(path, tmp_path / "out")


@pytest.mark.parametrize("members", [{"readme.txt": b""}, {**pairs("x/"), **pairs("y/")}])
def test_no_one_folder_of_pairs(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = write_zip(tmp_path / "a.zip", members)
    with pytest.raises(DataError, match="folders of images beside masks in it, instead of 1"):
        unpack_pairs(path, tmp_path / "out")
