"""Keys and passwords, kept out of everything that is written or shown.

Two things are hidden: the values of environment variables whose names look secret (and passwords in any variable's
address, and those of the netrc file), however they are quoted or encoded; and what looks like a well-known service's
key. A key of W&B is 40 hexadecimal digits, and so are a commit and a SHA-1. Such digits are hidden unless they follow a
word that says so (`commit`, `revision`), stand in a path or after `@`, or are the value of a field of that name.
"""

from __future__ import annotations

import base64
import html
import json
import netrc
import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "[hidden]"
SECRET_WORDS = {
    "token", "tokens", "secret", "secrets", "password", "passwords", "passwd", "pass", "passphrase", "passcode", "pwd",
    "key", "keys", "apikey", "pat", "psk", "auth", "authorization", "bearer", "jwt", "cookie", "cookies", "credential",
    "credentials", "cred", "creds", "webhook", "dsn", "otp", "sas", "signature", "pw",
}  # fmt: skip
"""A variable whose name has one of these words holds a secret."""
NO_SECRET = re.compile(r"(?i)(?:^-*keys?|name|file|path)$")
"""Names of parts of a variable that hold none, such as `SharedAccessKeyName` and the plain `key` of an address."""
SECRET_ENDS = ("pass", "pwd", "token", "secret", "password", "passwd", "apikey", "accesskey", "secretkey", "privatekey")
SHORTEST = 8
"""Shorter values are words, such as `true`, that may stand anywhere."""
_SHAPES = (
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    r"(?<=://)[^/\s:@'\"]*:[^/\s@'\"]+(?=@)",
    r"(?<=://)[^/\s:@'\"\[]{16,}(?=@)",
    r"hooks\.slack\.com/(?:services|workflows)/[\w/-]+|discord(?:app)?\.com/api/webhooks/[\w/-]+",
    r"\b(?:hf_|api_org_)[A-Za-z0-9]{20,}|\bgh[oprsu]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}",
    r"\bgl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat)-[\w-]{20,}",
    r"\bxox[a-z]-[\w-]{10,}|\bxapp-[\w-]{10,}|\bAIza[\w-]{30,}|\bya29\.[\w-]{20,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]+)*|(?<![A-Za-z0-9])(?:sk-(?=[\w-]*\d)[\w-]{20,}|(?:sk|rk|pk)_(?:live|test)_\w{16,})",
    r"\bwandb_v\d_\w{20,}|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[\w-]{40,}|\bdop_v1_[0-9a-f]{32,}|\bgsk_[A-Za-z0-9]{20,}",
    r"\bSG\.[\w-]{16,}\.[\w-]{16,}|\bnvapi-[\w-]{20,}|\br8_[A-Za-z0-9]{30,}|\bAGE-SECRET-KEY-\w{20,}",
    r"(?i:(?<=password=)|(?<=passwd=)|(?<=pwd=)|(?<=api_key=)|(?<=apikey=)|(?<=access_token=)|(?<=accountkey=)"
    r"|(?<=accesskey=)|(?<=client_secret=)|(?<=signature=)|(?<=[?&;]sig=))(?=[^\s&;'\"]*\d)[^\s&;'\"]{8,}",
)
SHAPES = re.compile("|".join(_SHAPES), re.DOTALL)
"""What the keys of well-known services look like, a name and password in an address, and a private key."""
AFTER = re.compile(
    r"""(?i)(?P<header>authorization['"]?\s*[:=]\s*['"]?)?\b(?P<scheme>bearer|basic)\s+(?P<given>[\w.~+/=-]{7,}[\w~+/=-])"""
    r"|(?<=[?&])(?P<key>key)=(?P<value>[^\s&;#'\"]{8,})"
)
"""What may be a key or a word: after `Bearer`, `Basic` and, in an address, `key=`."""
DRAWN = re.compile(
    r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{16,}|(?i:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-)"
    r"|(?=\S*\d)(?=\S*[a-z])(?=\S*[A-Z])[\w+/=-]{32,}"
)
"""No word: sixteen letters and digits without a break, a UUID, or more with small and capital letters and digits."""
LONGEST_WORD = 500
"""Letters by which it is told whether a text is a word; the time grows with their square."""
HEX = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{40}(?![0-9A-Za-z])")
OF_A_HASH = re.compile(
    r"(?i)(?:(?:commit|revision|rev|sha-?1|git|tree|blob|snapshot)s?\W{0,4}|/(?:resolve|raw|archive)/)$"
)
"""What stands before 40 hexadecimal digits that are no key."""
HASHES = ("commit", "revision", "sha1")
"""How the names of fields end whose value is a commit or a SHA-1."""
Hide = Callable[[str], str]


def redact(text: str) -> str:
    """`text` without the values of secret environment variables, passwords of the netrc file, and anything like a key.

    >>> redact("https://me:pass@host/file, hf_0123456789abcdefghijklmn")
    'https://[hidden]@host/file, [hidden]'
    """
    return _without_hex(_values_hider()(text)) if len(text) >= SHORTEST else text


def redacted(content: Any, keys: bool = True) -> Any:
    """Plain nested values with every text in them redacted, the keys too unless all are ours. Numbers stay as they are.

    >>> redacted({"git": {"commit": "0123456789" * 4}, "reason": "0123456789" * 4})
    {'git': {'commit': '0123456789012345678901234567890123456789'}, 'reason': '[hidden]'}
    """
    of_hash = _values_hider()
    of_text = lru_cache(maxsize=10_000)(lambda text: _without_hex(of_hash(text)))  # a table has few texts, many times
    return _redacted(content, of_text, of_hash, keys, is_hash=False)


def _redacted(content: Any, of_text: Hide, of_hash: Hide, keys: bool, is_hash: bool) -> Any:
    if isinstance(content, dict):
        named = {_redacted(key, of_text, of_hash, keys, False) if keys else key: key for key in content}
        return {
            name: _redacted(content[key], of_text, of_hash, keys, str(key).endswith(HASHES))
            for name, key in named.items()
        }
    if isinstance(content, list | tuple):
        return [_redacted(item, of_text, of_hash, keys, is_hash) for item in content]
    if not isinstance(content, str) or len(content) < SHORTEST:
        return content
    return of_hash(content) if is_hash else of_text(content)


def _without_given(text: str) -> str:
    """What `AFTER` finds is hidden where it is no word: it stands in a header, is a name and password in base64, or has
    letters and digits as no word has them."""

    def shown(match: re.Match[str]) -> str:
        name, given = match["key"] or match["scheme"], match["value"] or match["given"]
        if name.lower() == "basic" and not match["header"]:
            secret = _is_name_and_password(given)
        else:
            secret = bool(match["header"] or DRAWN.search(given[:LONGEST_WORD]))
        return match[0].removesuffix(given) + HIDDEN if secret else match[0]

    return AFTER.sub(shown, text)


def _is_name_and_password(given: str) -> bool:
    letters = given.rstrip("=.~-_")
    try:
        decoded = base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True).decode()
    except ValueError:
        return False
    return ":" in decoded and decoded.isprintable()


def _without_hex(text: str) -> str:
    """40 hexadecimal digits are hidden where nothing says that they are a commit or a SHA-1."""

    def shown(match: re.Match[str]) -> str:
        before = text[max(0, match.start() - 200) : match.start()]
        word = re.split(r"[\s'\"=,;()\[\]{}]", before)[-1]
        in_a_path = "/" in word and "://" not in word
        return match[0] if in_a_path or word.endswith("@") or OF_A_HASH.search(before) else HIDDEN

    return HEX.sub(shown, text)


def _values_hider() -> Hide:
    return _hider(frozenset(os.environ.items()), os.environ.get("NETRC"))


@lru_cache(maxsize=4)
def _hider(environment: frozenset[tuple[str, str]], netrc_path: str | None) -> Hide:
    values = set(_netrc_passwords(netrc_path))
    for name, value in environment:
        values |= {part for part in _parts(name, value) if _is_telling(part)}
    patterns = {pattern for value in values for pattern in _patterns(value)}
    if not patterns:
        return lambda text: _without_given(SHAPES.sub(HIDDEN, text))
    known = re.compile("|".join(sorted(patterns, key=len, reverse=True)))  # one value may contain another
    return lambda text: _without_given(SHAPES.sub(HIDDEN, known.sub(HIDDEN, text)))


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret.

    >>> list(map(is_secret_name, ("GH_PAT", "PGPASSWORD", "AccountKey", "PATH", "TOKENIZERS_PARALLELISM")))
    [True, True, True, False, False]
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    return any(word in SECRET_WORDS or word.endswith(SECRET_ENDS) for word in words)


def _parts(name: str, value: str) -> Iterator[str]:
    """What of a variable is secret: all of it, its lines and its named parts if its name says so; of an address in any
    variable the password, or what stands for one; of any list of `name=value` the values whose names say so."""
    for place in re.findall(r"://([^/\s@]+)@", value):
        user, _, password = place.partition(":")
        secret = password or (user if len(user) >= 2 * SHORTEST else "")
        yield from (secret, unquote(secret))
    named = re.findall(r"([\w-]+)=['\"]?([^\s;&,'\"]+)", value)
    if ";" in value:
        named += re.findall(r"([\w-]+)=([^;]+)", value)
    yield from (part.strip() for key, part in named if is_secret_name(key) and not NO_SECRET.search(key))
    if not is_secret_name(name):
        return
    yield from (value, value.strip(), *value.splitlines())
    if value.lstrip().startswith(("{", "[")):
        try:
            yield from _leaves(json.loads(value))
        except (ValueError, RecursionError):
            return


def _leaves(content: Any, key: str = "") -> Iterator[str]:
    if isinstance(content, dict):
        for name, item in content.items():
            yield from _leaves(item, str(name))
    elif isinstance(content, list):
        for item in content:
            yield from _leaves(item, key)
    elif isinstance(content, str) and is_secret_name(key):
        yield from (content, *content.splitlines())


def _is_telling(value: str) -> bool:
    """Whether a value would be missed by nobody: it is not short, no path, no frame of a key, and no word of ours."""
    if len(value) < SHORTEST or value.startswith("-----") or ("/" in value and os.path.lexists(value)):
        return False
    return not (re.fullmatch(r"[A-Za-z_]+", value) and value.lower() in _own_words())


@lru_cache(maxsize=1)
def _own_words() -> frozenset[str]:
    """The words of the lab's own files. A password that is one of these cannot be told from the word."""
    home = Path(__file__).parents[1]
    texts = [path.read_text(encoding="utf-8") for path in (*home.rglob("*.py"), *home.parent.glob("conf/**/*.yaml"))]
    words = {word for text in texts for word in re.findall(r"[a-z_]{8,}", text.lower())}
    return frozenset(words | {part for word in words for part in word.split("_")})


def _patterns(value: str) -> set[str]:
    """Patterns of a value in each form that it may be written in. A plain word or number is only found by itself."""
    if re.fullmatch(r"[a-z_]+|[A-Z_]+|[A-Z][a-z]+|\d+", value):
        return {rf"(?<![A-Za-z0-9.]){value}(?![A-Za-z0-9])"}
    raw = value.encode("utf-8", "surrogateescape")
    hexed = raw.hex()
    forms = {
        value,
        " ".join(value.split()),
        hexed,
        hexed.upper(),
        html.escape(value),
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
    }
    forms |= {json.dumps(value, ensure_ascii=False)[1:-1], value.replace("'", "''"), value.replace("'", "\\'")}
    forms |= {value.replace("'", "'\"'\"'"), value.encode("unicode_escape").decode()}
    urls = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
    forms |= urls | {re.sub("%..", lambda code: code[0].lower(), url) for url in urls}
    forms |= {form for offset in range(3) for form in _base64(raw, offset)}
    return {re.escape(form) for form in forms if len(form) >= SHORTEST}


def _base64(raw: bytes, offset: int) -> set[str]:
    """The letters that the bytes have in base64 whatever `offset` bytes stand before them, as a user's name does."""
    coded = base64.b64encode(bytes(offset) + raw).decode()[(0, 2, 3)[offset] : (offset + len(raw)) * 8 // 6]
    return {coded, coded.translate(str.maketrans("+/", "-_"))}


@lru_cache(maxsize=4)
def _netrc_passwords(path: str | None) -> frozenset[str]:
    try:
        hosts = netrc.netrc(path or str(Path.home() / ".netrc")).hosts
    except (OSError, netrc.NetrcParseError, RuntimeError, UnicodeDecodeError):
        return frozenset()
    return frozenset(password for _, _, password in hosts.values() if password and len(password) >= SHORTEST)
