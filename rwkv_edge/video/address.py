"""What a user names as a live source, with its credentials apart from what may be shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from rwkv_edge.errors import UsageError
from rwkv_edge.video.redact import redact

NETWORK_SCHEMES = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
"""With the port that each has by default."""
USER_VARIABLE, PASSWORD_VARIABLE = "RWKV_EDGE_RTSP_USER", "RWKV_EDGE_RTSP_PASSWORD"


@dataclass(frozen=True)
class NetworkAddress:
    """Where a network stream is."""

    host: str
    port: int
    url: str = field(repr=False)
    """Whole, with credentials; only for the library that connects."""
    shown: str
    """For messages."""
    secrets: tuple[str, ...] = field(default=(), repr=False)


def parse_network(
    text: str,
    credentials: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    option: str = "--source",
) -> NetworkAddress:
    """Read an address of `NETWORK_SCHEMES`; no message quotes its credentials.

    Args:
        text: the address. Credentials in it win over the others.
        credentials: file with the user in the first line and the password in the second.
        environment: holds RWKV_EDGE_RTSP_USER and RWKV_EDGE_RTSP_PASSWORD, used last.
        option: where the address was given, for messages.

    Raises:
        UsageError: no host, a port that is no number, or a file of credentials that cannot be read.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{option} {redact(text)}: not a valid address") from error
    if not host:
        raise UsageError(f"{option} {redact(text)}: the address names no host")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not user and credentials is not None:
        user, password = _read_credentials(credentials)
    elif not user:
        user = environment.get(USER_VARIABLE, "")
        password = environment.get(PASSWORD_VARIABLE, "")
    secrets = tuple({part for word in (user, password) for part in (word, quote(word, safe=""))})
    return NetworkAddress(
        host,
        port or NETWORK_SCHEMES[parts.scheme.lower()],
        _with_user(parts, user, password),
        redact(_with_user(parts, "", "")),
        secrets,
    )


def _read_credentials(path: Path) -> tuple[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(f"file of credentials {path}: {reason}") from error
    if len(lines) < 2:
        raise UsageError(
            f"file of credentials {path}: write the user into the first line, the password into "
            "the next"
        )
    return lines[0].strip(), lines[1].strip()


def _with_user(parts: SplitResult, user: str, password: str) -> str:
    place = parts.netloc.rsplit("@", 1)[-1]
    if user:
        place = f"{quote(user, safe='')}:{quote(password, safe='')}@{place}"
    return parts._replace(netloc=place).geturl()
