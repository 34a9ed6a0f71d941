"""Fetching one file from an address or a folder: whole and checked, or not at all.

An interrupted download starts again from the beginning: what is fetched here is tens of megabytes.
"""

from __future__ import annotations

import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rwkv_edge import __version__
from rwkv_edge.errors import DownloadError
from rwkv_edge.files import atomic_path

LIMIT = 4 << 30
"""Bytes that a file may have whose size is not known before."""
_CHUNK = 1 << 18
_SILENCE_SECONDS = 30
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

OnBytes = Callable[[int, int | None], None]
"""Called with the bytes so far and, where it is known, the total."""


def is_address(source: str) -> bool:
    """Tell an http or https address from a path."""
    return source.startswith(("http://", "https://"))


def join(base: str, name: str) -> str:
    """Return the file `name` of a mirror: an address, or a folder."""
    return f"{base.rstrip('/')}/{name}" if "://" in base else str(Path(base) / name)


def fetch(
    source: str,
    target: Path,
    *,
    sha256: str | None,
    size: int | None = None,
    on_bytes: OnBytes | None = None,
) -> str:
    """Copy a file to `target`, which appears only once size and hash are right.

    Args:
        source: an http or https address, or a path.
        target: what to write; replaced if it exists.
        sha256: what its SHA-256 must be, hexadecimal; None: any, but then only over https.
        size: bytes that it must have; None: any, up to `LIMIT`.
        on_bytes: told of the progress.

    Returns:
        Its SHA-256.

    Raises:
        DownloadError: it cannot be had, or is not the file that was meant.
        OutputError: `target` cannot be written.
    """
    if "://" in source:
        _check_address(source, sha256)
    digest, done = hashlib.sha256(), 0
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        for chunk, total in _chunks(source):
            done += len(chunk)
            if done > (LIMIT if size is None else size):
                expected = f"{LIMIT} at most" if size is None else str(size)
                raise DownloadError(f"{source}: more bytes than expected ({expected})")
            digest.update(chunk)
            file.write(chunk)
            if on_bytes:
                on_bytes(done, size or total)
        if size is not None and done != size:
            raise DownloadError(f"{source}: {done} bytes instead of {size}; try again")
        if sha256 is not None and digest.hexdigest() != sha256.lower():
            raise DownloadError(
                f"{source}: not the file that was meant: its SHA-256 is {digest.hexdigest()}, "
                f"expected {sha256.lower()}"
            )
    return digest.hexdigest()


def _check_address(address: str, sha256: str | None) -> None:
    parts = urlsplit(address)
    if not is_address(address):
        raise DownloadError(f"{address}: only https://, http:// and paths can be fetched from")
    if not parts.hostname:
        raise DownloadError(f"{address}: not an address")
    if parts.scheme == "http" and sha256 is None and parts.hostname not in _LOOPBACK:
        raise DownloadError(
            f"{address}: anyone on the way can change what comes over http; give an https address "
            "or the file's SHA-256"
        )


def _chunks(source: str) -> Iterator[tuple[bytes, int | None]]:
    return _from_address(source) if is_address(source) else _from_path(Path(source))


def _from_path(path: Path) -> Iterator[tuple[bytes, int | None]]:
    try:
        with path.open("rb") as file:
            total = path.stat().st_size
            while chunk := file.read(_CHUNK):
                yield chunk, total
    except OSError as error:
        raise DownloadError(f"{path}: {error.strerror or error}") from error


def _from_address(address: str) -> Iterator[tuple[bytes, int | None]]:
    request = urllib.request.Request(address, headers={"User-Agent": f"rwkv-edge/{__version__}"})
    try:
        opener = urllib.request.build_opener(_Redirects)
        with opener.open(request, timeout=_SILENCE_SECONDS) as response:
            stated = response.headers.get("Content-Length")
            total = int(stated) if stated and stated.isdecimal() else None
            done = 0
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                yield chunk, total
            if total is not None and done < total:
                raise DownloadError(f"{address}: ended after {done} of {total} bytes; try again")
    except urllib.error.HTTPError as error:
        raise DownloadError(f"{address}: the server says {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(f"{address}: {_reason(error)}") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Never from https to http, not even on the way: whoever sits there could choose the file."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise DownloadError(f"{req.full_url}: leads to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            "its certificate cannot be verified (servers that leave out a part of their chain work "
            "in browsers only); fetch the file with a browser and give it with --from"
        )
    if isinstance(cause, TimeoutError):
        return f"nothing came for {_SILENCE_SECONDS} seconds; try again"
    words = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return f"cannot be fetched ({words}); is there a network? --from takes a copy or a mirror"
