from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from rwkv_edge.download import fetch, join
from rwkv_edge.errors import DownloadError, OutputError
from tests.loopback import Loopback, serve

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def fails(source: str, target: Path, message: str, sha256: str | None = SHA256) -> None:
    """The error is one line that matches, and nothing is left behind."""
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(source, target, sha256=sha256, size=len(CONTENT))
    assert "\n" not in str(caught.value)
    assert not list(target.parent.iterdir())


def test_from_an_address_and_a_folder(tmp_path: Path, loopback: Loopback) -> None:
    loopback.files["/w.bin"] = CONTENT
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / "w.bin"
    address = join(f"{loopback.address}/", "w.bin")
    found = fetch(address, target, sha256=None, on_bytes=lambda *now: seen.append(now))
    assert found == SHA256
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert len(seen) > 2

    copy = tmp_path / "copy.bin"
    fetch(join(str(target.parent), "w.bin"), copy, sha256=SHA256.upper(), size=len(CONTENT))
    assert copy.read_bytes() == CONTENT


def test_what_is_not_the_file(tmp_path: Path, loopback: Loopback) -> None:
    target = tmp_path / "out" / "w.bin"
    target.parent.mkdir()
    loopback.files |= {"/other": CONTENT[::-1], "/long": CONTENT + b"x", "/short": CONTENT[:-1]}
    loopback.files["/cut"] = CONTENT
    loopback.truncated.add("/cut")
    fails(f"{loopback.address}/other", target, "not the file that was meant: its SHA-256 is")
    fails(f"{loopback.address}/long", target, rf"more bytes than expected \({len(CONTENT)}\)")
    fails(f"{loopback.address}/short", target, f"bytes instead of {len(CONTENT)}; try again")
    fails(f"{loopback.address}/cut", target, f"ended after {len(CONTENT) // 2} of")
    fails(f"{loopback.address}/none", target, "the server says 404 Not Found")


def test_a_redirect_is_followed(tmp_path: Path, loopback: Loopback) -> None:
    loopback.files["/there"] = CONTENT
    loopback.redirects["/here"] = "/there"
    fetch(f"{loopback.address}/here", tmp_path / "w.bin", sha256=SHA256)
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


def test_a_certificate_that_nobody_signed(
    tmp_path: Path, loopback: Loopback, tls_files: tuple[Path, Path]
) -> None:
    target = tmp_path / "out" / "w.bin"
    target.parent.mkdir()
    with serve(tls_files) as served:
        served.files["/w"] = CONTENT
        fails(f"{served.address}/w", target, "its certificate cannot be verified", sha256=None)
        assert not served.asked


def test_https_that_leads_to_http(
    tmp_path: Path,
    loopback: Loopback,
    tls_files: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_files[0]))
    target = tmp_path / "out" / "w.bin"
    target.parent.mkdir()
    loopback.files["/w"] = CONTENT
    with serve(tls_files) as served:
        served.redirects["/w"] = f"{loopback.address}/w"
        fails(f"{served.address}/w", target, "which is not https", sha256=None)
        loopback.redirects["/w"] = f"{served.address}/good"  # and back again
        fails(f"{served.address}/w", target, "which is not https", sha256=None)
        served.files["/good"] = CONTENT
        assert fetch(f"{served.address}/good", target, sha256=None) == SHA256


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of our own for 127.0.0.1, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl: no https server is run")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out"]
    subprocess.run([openssl, *words, str(certificate)], check=True, capture_output=True)
    return certificate, key


def test_an_earlier_file_survives_a_failure(tmp_path: Path, loopback: Loopback) -> None:
    target = tmp_path / "w.bin"
    target.write_text("earlier")
    with pytest.raises(DownloadError):
        fetch(f"{loopback.address}/none", target, sha256=SHA256)
    assert target.read_text() == "earlier"
    loopback.files["/w"] = CONTENT  # and the next try replaces it
    fetch(f"{loopback.address}/w", target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_no_server(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    target = tmp_path / "out" / "w.bin"
    target.parent.mkdir()
    fails(f"http://127.0.0.1:{port}/w", target, r"cannot be fetched \(Connection refused\)")
    fails("http://no-such-host.invalid/w", target, "is there a network")
    fails("https:///w", target, "not an address")
    fails(str(tmp_path / "none"), target, "none: No such file or directory")


def test_what_nobody_vouches_for(tmp_path: Path, loopback: Loopback) -> None:
    """Without a hash, only https says who sent it."""
    target = tmp_path / "out" / "w.bin"
    target.parent.mkdir()
    message = "anyone on the way can change what comes over http"
    fails("http://example.invalid/w", target, message, sha256=None)


def test_a_folder_that_cannot_be_written(tmp_path: Path, loopback: Loopback) -> None:
    loopback.files["/w"] = CONTENT
    (tmp_path / "file").write_text("in the way")
    for folder in (Path("/proc/rwkv"), tmp_path / "file"):
        with pytest.raises(OutputError, match="choose another folder"):
            fetch(f"{loopback.address}/w", folder / "w.bin", sha256=SHA256)
    assert not loopback.asked


def test_an_address_of_another_kind(tmp_path: Path) -> None:
    target = tmp_path / "out" / "w.bin"
    target.parent.mkdir()
    fails(join("ftp://box", "w.bin"), target, "ftp://box/w.bin: only https://, http:// and paths")
