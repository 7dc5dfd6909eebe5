"""Keys and passwords, kept out of what is printed, written and sent.

Two things are hidden: the values of environment variables that are named like a key (and the password in the address
of any variable), as they are or quoted for an address; and the tokens of well-known services, known by how they begin.
Every entry calls `guard` first: then all that its process prints is hidden too, also warnings, log messages, Hydra's
errors and the traceback of an exception that nobody caught.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

from lorax_lab import errors

HIDDEN = "[hidden]"
SECRET_NAME = re.compile(
    r"(?i)(?:token|secret|passw(?:or)?d|passphrase|pwd|webhook|credentials?|api_?key)s?(?:_|$)|(?:^|_)(?:\w*_)?keys?(?:_|$)"
    r"|(?:^|_)(?:pass|pat|auth|jwt|cookie|dsn)(?:_|$)"
)
"""A variable of such a name holds a secret: `HF_TOKEN`, `PGPASSWORD`, but not `TOKENIZERS_PARALLELISM`."""
SHORTEST = 8
"""Shorter values are words, such as `true`, that may stand anywhere."""
TOKENS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<=://)[^/\s:@'\"]*:[^/\s@'\"]+(?=@)|(?i:(?<=bearer )[\w.~+/=-]{16,})"
    r"|\b(?:hf_|api_org_)[A-Za-z0-9]{20,}|\bwandb_v\d_\w{20,}|\bgh[oprsu]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
    r"|\bgl(?:pat|dt|rt)-[\w-]{20,}|\bsk-(?=[\w-]*\d)[\w-]{20,}|\b[srp]k_(?:live|test)_\w{16,}|\bxox[a-z]-[\w-]{10,}"
    r"|\bAIza[\w-]{30,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[\w-]{40,}|\bgsk_[A-Za-z0-9]{20,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]+)*|hooks\.slack\.com/(?:services|workflows)/[\w/-]+",
    re.DOTALL,
)
"""Tokens of well-known services, a name and password in an address, and a private key."""


def redact(text: str) -> str:
    """`text` without the values of secret environment variables and without anything like a token.

    >>> redact("https://me:pass@host/file, hf_0123456789abcdefghijklmn")
    'https://[hidden]@host/file, [hidden]'
    """
    if len(text) < SHORTEST:
        return text
    values = _pattern(frozenset(os.environ.items()))
    return TOKENS.sub(HIDDEN, values.sub(HIDDEN, text) if values else text)


def redacted(content: Any) -> Any:
    """Plain nested values with every text in them redacted. Numbers and keys stay as they are.

    >>> redacted({"reason": "bad token hf_0123456789abcdefghijklmn", "seed": 12345678})
    {'reason': 'bad token [hidden]', 'seed': 12345678}
    """
    if isinstance(content, Mapping):
        return {key: redacted(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [redacted(item) for item in content]
    return redact(content) if isinstance(content, str) else content


class Redacting:
    """A text stream that hides secrets. It passes on whole lines, and the rest when it is flushed, since a secret may
    be written in pieces. All else it leaves to the stream that it stands before."""

    def __init__(self, stream: Any) -> None:
        self.stream, self._held, self._lock = stream, "", threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Pass on the lines that are whole by now."""
        with self._lock:
            *lines, self._held = re.split(r"(?<=[\r\n])", self._held + text)
            self._pass_on("".join(lines))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Pass on what is there."""
        with self._lock:
            rest, self._held = self._held, ""
            self._pass_on(rest, flush=True)

    def _pass_on(self, text: str, flush: bool = False) -> None:
        """Nobody may read on, as after `| head`: what is printed from then on is dropped, and the work goes on."""
        try:
            if text:
                self.stream.write(redact(text))
            if flush:
                self.stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def guard() -> None:
    """Hide secrets in all that this process prints from now on."""
    errors.hide = redact
    for name in ("stdout", "stderr"):
        if not isinstance(stream := getattr(sys, name), Redacting | None):
            setattr(sys, name, Redacting(stream))


@lru_cache(maxsize=4)
def _pattern(environment: frozenset[tuple[str, str]]) -> re.Pattern[str] | None:
    values = set[str]()
    for name, value in environment:
        values |= {unquote(password) for password in re.findall(r"://[^/\s:@]*:([^/\s@]+)@", value)}
        if SECRET_NAME.search(name) and not ("/" in value and os.path.lexists(value)):
            values |= {value, *value.split("\n")}
    forms = {form for value in values if len(value) >= SHORTEST for form in (value, quote(value, safe=""))}
    longest_first = sorted(map(re.escape, forms), key=len, reverse=True)  # one value may contain another
    return re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(longest_first)})(?![A-Za-z0-9])") if forms else None
