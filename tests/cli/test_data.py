from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from rwkv_edge.cli import main
from rwkv_edge.data import sources
from rwkv_edge.data.pairs import load_dataset
from rwkv_edge.errors import OutputError
from tests.cli.test_cli import fails
from tests.data.archives import pairs, write_zip
from tests.loopback import Loopback

FETCH = ("data", "fetch", "discs")
ACCEPT = (*FETCH, "--accept-licence")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    return int(caught.value.code or 0)


@pytest.fixture
def server(tmp_path: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """A server with an archive, and a table that knows its address."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").mkdir()
    content = write_zip(tmp_path / "made" / "discs.zip", pairs()).read_bytes()
    loopback.files["/discs.zip"] = content
    row = {
        "name": "discs",
        "title": "Discs",
        "page": "https://example.invalid/discs",
        "url": f"{loopback.address}/discs.zip",
        "sha256": None,
        "size": "1 kB",
        "licence": "For tests alone.",
        "note": "",
        "source": "a test",
    }
    table = tmp_path / "made" / "sources.json"
    table.write_text(json.dumps([row, {**row, "name": "closed", "url": None, "note": "Ask."}]))
    monkeypatch.setattr(sources, "TABLE", table)
    return loopback


def left() -> list[str]:
    return sorted(path.name for path in Path().iterdir() if path.name != "made")


def test_fetch(server: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    sha256 = hashlib.sha256(server.files["/discs.zip"]).hexdigest()
    assert run(*ACCEPT) == 0
    shown = capsys.readouterr().out
    assert shown.index("licence: For tests alone.") < shown.index("wrote 2 images with masks")
    assert f"SHA256 {sha256} (not known before, kept in the file SHA256)" in shown
    assert shown.endswith("next: rwkv-edge split --data discs\n")
    assert left() == ["discs"]
    assert len(load_dataset(Path("discs")).pairs("all")) == 2
    assert Path("discs/SHA256").read_text() == f"{sha256}  discs.zip\n"
    assert "For tests alone." in Path("discs/LICENCE.txt").read_text()

    code, line = fails(capsys, *ACCEPT)
    assert (code, line) == (1, "error: discs is there already; choose another --output")
    assert run(*ACCEPT, "--output", "new/again", "--sha256", sha256.upper()) == 0
    assert f"SHA256 {sha256} (verified)" in capsys.readouterr().out
    assert run(*ACCEPT, "--output", "copy", "--from", "made/discs.zip") == 0
    assert len(server.asked) == 2
    assert run("split", "--data", "copy", "--fractions", "0.5,0.5,0") == 0  # the next command


def test_what_is_refused_leaves_nothing(
    server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = fails(capsys, *ACCEPT, "--sha256", "0" * 64)
    assert (code, "not the file that was meant" in line) == (1, True)
    write_zip(Path("made/evil.zip"), {**pairs(), "../../evil.png": b"evil"})
    server.files["/discs.zip"] = Path("made/evil.zip").read_bytes()
    code, line = fails(capsys, *ACCEPT)
    assert (code, "would be written outside the folder" in line) == (1, True)
    members = pairs()
    del members["Kvasir-SEG/masks/b.png"]
    write_zip(Path("made/lonely.zip"), members)
    code, line = fails(capsys, *ACCEPT, "--from", "made/lonely.zip")
    assert (code, "discs/images/b.png: has no mask in" in line) == (1, True)
    server.truncated.add("/discs.zip")
    code, line = fails(capsys, *ACCEPT)
    assert (code, "ended after" in line) == (1, True)
    assert fails(capsys, *ACCEPT, "--output", "/proc/x/y")[0] == 1
    assert left() == []


def test_a_presigned_address(server: Loopback) -> None:
    """Its query holds a token and slashes: neither belongs into a file's name."""
    address = "/discs.zip?X-Amz-Credential=KEY/2024/eu&X-Amz-Signature=SECRET"
    server.files[address] = server.files["/discs.zip"]
    assert run(*ACCEPT, "--from", server.address + address) == 0
    assert Path("discs/SHA256").read_text().endswith("  discs.zip\n")
    assert not any(b"SECRET" in p.read_bytes() for p in Path("discs").rglob("*") if p.is_file())


def test_into_the_folder_one_is_in(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Path("made/discs.zip").resolve()
    Path("here").mkdir()
    monkeypatch.chdir("here")
    before = Path().stat().st_ino
    assert run(*ACCEPT, "--output", ".", "--from", str(archive)) == 0
    assert sorted(path.name for path in Path().iterdir()) == [
        "LICENCE.txt",
        "SHA256",
        "images",
        "masks",
    ]
    assert Path.cwd().stat().st_ino == before  # the shell that started it is still somewhere


@pytest.mark.parametrize("name", ["data", "a?b#c.zip"])
def test_odd_names_of_an_archive(server: Loopback, name: str) -> None:
    archive = Path("made/discs.zip").rename(Path("made", name))
    assert run(*ACCEPT, "--from", str(archive)) == 0
    assert Path("discs/SHA256").read_text().endswith(f"  {name}\n")


def test_what_cannot_be_written(
    server: Loopback, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(archive: Path, folder: Path) -> int:
        raise OutputError(f"cannot write {folder}: No space left on device")

    monkeypatch.setattr("rwkv_edge.data.fetch.unpack_pairs", full)
    assert fails(capsys, *ACCEPT) == (1, "error: cannot write discs: No space left on device")
    assert left() == []


def test_wrong_words(server: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(capsys, "data", "fetch", "moon") == (
        2,
        "error: 'moon': choose one of discs, closed",
    )
    assert fails(capsys, *ACCEPT, "--sha256", "abc")[0] == 2
    assert fails(capsys, *ACCEPT, "--from", ".") == (
        2,
        "error: --from .: is a folder; give the archive itself",
    )
    code, line = fails(capsys, "data", "fetch", "closed", "--accept-licence")
    assert code == 1
    assert "no address to fetch it from; see https://example.invalid/discs (Ask.)" in line
    assert not server.asked


def test_without_a_terminal(server: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, *FETCH)
    assert code == 2
    assert "no terminal to ask at; read the licence and add --accept-licence" in line
    assert not server.asked


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("", 1), ("y", 0)])
def test_at_a_terminal(server: Loopback, answer: str, code: int) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    script = (
        "import sys; from pathlib import Path; from rwkv_edge.data import sources;"
        "from rwkv_edge.cli import main; sources.TABLE = Path('made/sources.json');"
        "main(['data', 'fetch', 'discs'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], stdin=theirs, capture_output=True, text=True, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert "Do you accept this licence?" in done.stdout
    assert done.returncode == code
    assert bool(server.asked) == (code == 0)
    assert left() == (["discs"] if code == 0 else [])
    if code:
        assert "the licence was declined; nothing was downloaded" in done.stderr


def test_the_table_that_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "list") == 0
    shown = capsys.readouterr().out
    table = sources.load_sources()
    assert {"kvasir-seg", "hyperkvasir", "cvc-clinicdb"} <= set(table)
    for name, row in table.items():
        assert f"{name}\n" in shown
        assert row.licence
        assert row.source
        assert row.page.startswith("https://")
        assert row.url is None or row.url.startswith("https://")
        assert row.url or row.note
