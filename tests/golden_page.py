"""A page beside the golden one in `tests/golden`.

`GOLDEN=write` before the command of pytest writes the golden pages anew. Read what changed before you commit it.
"""

import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def check(name: str, text: str) -> None:
    """Compare a page with its golden one."""
    path = GOLDEN / f"{name}.md"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} is another; to write it anew: GOLDEN=write"
