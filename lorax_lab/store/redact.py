"""Keys and passwords, kept out of everything that is written."""

from __future__ import annotations

import netrc
import os
import re
from functools import lru_cache
from pathlib import Path

HIDDEN = "[hidden]"
SECRET_NAMES = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|APIKEY|API_KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?)(_|$)", re.IGNORECASE
)
SHORTEST = 8
"""Shorter values are words, such as `true`, that may stand anywhere."""
TOKENS = re.compile(
    r"hf_[A-Za-z0-9]{20,}|gh[opsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|sk-[\w-]{20,}|AKIA[0-9A-Z]{16}|wandb_v\d_\w{20,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
"""What the keys of well-known services look like, and a name and password in an address."""


def redact(text: str) -> str:
    """`text` without the values of secret environment variables, passwords of the netrc file, and anything like a key.

    >>> redact("https://me:pass@host/file, hf_0123456789abcdefghijklmn")
    'https://[hidden]@host/file, [hidden]'
    """
    for secret in _secrets():
        text = text.replace(secret, HIDDEN)
    return TOKENS.sub(HIDDEN, text)


def _secrets() -> list[str]:
    """The longest first, since one may contain another."""
    named = {value for name, value in os.environ.items() if SECRET_NAMES.search(name)}
    secrets = {value for value in named if len(value) >= SHORTEST} | _netrc_passwords(os.environ.get("NETRC"))
    return sorted(secrets, key=len, reverse=True)


@lru_cache(maxsize=4)
def _netrc_passwords(path: str | None) -> frozenset[str]:
    try:
        hosts = netrc.netrc(path or str(Path.home() / ".netrc")).hosts
    except (OSError, netrc.NetrcParseError, RuntimeError):
        return frozenset()
    return frozenset(password for _, _, password in hosts.values() if password and len(password) >= SHORTEST)
