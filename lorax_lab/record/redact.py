"""Keys and passwords, kept out of what is printed, written and sent: the values of environment variables that are named
like a key, and the tokens of well-known services. Every entry calls `guard` first."""

import io
import os
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

HIDDEN = "[hidden]"
SECRET_NAME = re.compile(
    r"(?i)token(?:_|$)|secret|passw(?:or)?d|credential|(?:^|_)(?:api_?key|key|pass|pat|jwt|cookie)(?:_|$)|_pwd$"
)
"""A variable of such a name holds a secret: `HF_TOKEN`, `PGPASSWORD`, but not `TOKENIZERS_PARALLELISM`."""
SHORTEST = 8
"""Shorter values are words, such as `true`, that may stand anywhere."""
TOKENS = re.compile(
    r"(?<=://)(?:[^/\s:@'\"]*:[^/\s@'\"]+|[^/\s:@'\"]{20,})(?=@)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^\"-]|-(?!----))*(?:-----END [A-Z ]*-----)?"
    r"|\beyJ[\w-]+\.eyJ[\w-]+\.[\w-]*|\bxox[a-z]-[\w-]{10,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\b(?:hf_|api_org_|wandb_v\d_|gh[oprsu]_|github_pat_|npm_|gsk_|[rs]k_(?:live|test)_|whsec_|dckr_pat_|lsv2_pt_"
    r"|shpat_|pcsk_|tgp_v1_|dop_v1_|r8_(?=[a-zA-Z0-9]{37}\b))\w{20,}"
    r"|\b(?:gl[a-z]{1,3}t-|(?:sk|xai|pplx)-(?=[\w-]*\d)|nvapi-|pypi-|xapp-|AIza|GOCSPX-|SG\.|ya29\.|hvs\.|\d{8,10}:AA)"
    r"[\w.-]{20,}"
    r"|(?:(?<=Bearer )|(?<=access_token=)|(?<=[?&]token=)|(?<=api_key=)|(?<=Signature=)|(?<=[?&]sig=)|(?<=AccountKey=)"
    r"|(?<=hooks\.slack\.com/services/))[\w.~+/=%-]{20,}"
)
"""Tokens of well-known services, private keys, and what an address or a header has to sign in with."""


def redact(text: str) -> str:
    """`text` without the values of secret environment variables and without anything like a token.

    >>> redact("https://me:pass@host/file?sig=0123456789abcdefghij&a=b, hf_0123456789abcdefghijklmn")
    'https://[hidden]@host/file?sig=[hidden]&a=b, [hidden]'
    """
    values = _values(frozenset(os.environ.items()))
    return TOKENS.sub(HIDDEN, values.sub(HIDDEN, text) if values else text)


@lru_cache(maxsize=4)
def _values(environment: frozenset[tuple[str, str]]) -> re.Pattern[str] | None:
    """What finds the values of secret variables; a number is none, so that no result is hidden."""
    values = {value for name, value in environment if SECRET_NAME.search(name) and not value.isdecimal()}
    longest_first = sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def redacted(content: Any) -> Any:
    """Plain nested values with every text in them redacted; numbers and keys stay.

    >>> redacted({"reason": "bad token hf_0123456789abcdefghijklmn", "seed": 12345678})
    {'reason': 'bad token [hidden]', 'seed': 12345678}
    """
    if isinstance(content, Mapping):
        return {key: redacted(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [redacted(item) for item in content]
    return redact(content) if isinstance(content, str) else content


class Redacting:
    """A text stream that hides secrets. All else it leaves to the stream that it stands before."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write without secrets. Where that fails, since nobody reads on, as after `| head`, the disk is full or the
        terminal is gone, what is printed is dropped from then on: nothing that is printed is worth a run."""
        try:
            self.stream.write(redact(text))
            self.stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            if not isinstance(error, BrokenPipeError) and self is sys.stdout:
                print(f"note: nothing more is printed ({error.strerror}); the work goes on", file=sys.stderr)
        return len(text)


def guard() -> None:
    """Hide secrets in all that this process prints from now on, tracebacks too. A sign that a stream does not know is
    printed as its code."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        if not isinstance(stream, Redacting | None):
            setattr(sys, name, Redacting(stream))
