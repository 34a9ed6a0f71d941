"""Credentials kept out of every message, ours and the libraries'."""

from __future__ import annotations

import re

_HIDDEN = "***"
# up to the last @, because people write passwords with @, / and spaces unescaped
_USER_INFO = re.compile(r"([a-z][a-z0-9+.-]*://)(?:(?:(?!://)[^\"'!])*|\S*)@", re.IGNORECASE)
# and where the scheme was forgotten
_BARE = re.compile(r"(?<![\w/@])[^\s:/@]+:[^\s/]*@(?=[\w.\[-])")
_QUERY = re.compile(
    r"((?:^|[?&;\s])[^?&;=\s]*(?:pass|pwd|user|login|token|key|auth|secret|sig)[^?&;=\s]*\s*=\s*)"
    r"(?:\"[^\"]*\"|'[^']*'|[^&;\s'\"]+)",
    re.IGNORECASE,
)


def redact(text: str, *secrets: str) -> str:
    """Hide the user information of addresses, secret values of queries, and `secrets`.

    Args:
        text: anything that may quote an address.
        secrets: literal words that must not appear either.
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    text = _BARE.sub(f"{_HIDDEN}@", _USER_INFO.sub(rf"\1{_HIDDEN}@", text))
    return _QUERY.sub(rf"\1{_HIDDEN}", text)
