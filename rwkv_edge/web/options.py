"""Where the page is served and for whom; imports nothing that the extra 'web' brings."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from rwkv_edge.errors import UsageError

MIN_TOKEN = 16
"""Characters."""


@dataclass(frozen=True)
class WebOptions:
    """Where to listen and for whom."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0: any free one."""
    cert: Path | None = None
    key: Path | None = None
    """Where the private key is not in the certificate's file."""
    insecure_plain_http: bool = False
    """Serve another than a loopback address without encryption."""
    allow_hosts: tuple[str, ...] = ()
    """Host names to answer to, besides addresses and this machine's own name."""
    token: str | None = None
    """None: a random one."""
    max_viewers: int = 32
    webrtc: bool = True
    """Offer the picture by WebRTC, too, where aiortc is installed and `host` is no loopback one:
    its ports are opened on every address of the machine but those."""
    max_peers: int = 4
    """Viewers by WebRTC at once, each of which costs an encoder; the others get JPEGs."""

    def check(self) -> None:
        """Refuse what would be unsafe or cannot work.

        Raises:
            UsageError: as its message says.
        """
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port {self.port}: it must lie between 0 and 65535")
        if self.key is not None and self.cert is None:
            raise UsageError("--key needs --cert, the certificate that goes with it")
        if self.cert is None and not is_loopback(self.host) and not self.insecure_plain_http:
            raise UsageError(
                f"--host {self.host} can be reached from other machines, and without TLS anybody "
                "on the network can read the picture and the token: give --cert and --key, or "
                "--insecure-plain-http if the network is yours alone"
            )
        if self.token is not None and len(self.token) < MIN_TOKEN:
            raise UsageError(f"the token must have {MIN_TOKEN} characters or more")
        if self.cert is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            try:
                context.load_cert_chain(self.cert, self.key, password=lambda: "")
            except OSError as error:  # ssl.SSLError is one
                where = self.key or self.cert
                reason = error.strerror or type(error).__name__
                raise UsageError(
                    f"--cert {self.cert}, --key {where}: not a certificate and its unencrypted "
                    f"private key in PEM ({reason})"
                ) from error


def read_token(path: Path) -> str:
    """Read the access token from a file, for a bookmark or a scraper that outlives a restart.

    Raises:
        UsageError: it cannot be read, or is not one word that an address can carry.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it holds more than ASCII"
        raise UsageError(f"--token-file {path}: {reason}") from error
    if not token.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"--token-file {path}: give one line of letters, digits, - and _")
    return token


def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own; a name other than localhost is not."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
