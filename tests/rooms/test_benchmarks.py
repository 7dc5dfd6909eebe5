"""The table of the benches: a result that defaults of another day gave is shown as stale."""

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as benches

ROW = {"what": "a / b", "ratio": 0.5, "spread": "", "aim": ""}
RESULT = {"title": "A sweep", "date": "2026-11-26", "note": "", "rows": [ROW]}
HARDWARE = {"device": "cpu", "processor": "one", "processors": 2, "threads": 1}


@pytest.mark.parametrize(
    ("name", "more", "is_stale"),
    [("sweep", {}, True), ("sweep", {"defaults": "another"}, True), ("sweep", None, False), ("spectra", {}, False)],
)
def test_a_result_of_other_defaults_is_stale(
    name: str, more: dict[str, str] | None, is_stale: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benches, "HERE", tmp_path)
    more = {"defaults": benches.defaults_sha256()} if more is None else more
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / f"{name}.json").write_text(json.dumps(RESULT | {"hardware": HARDWARE} | more))
    (tmp_path / "README.md").write_text("Words\n\n<!-- results -->\nold")
    benches.write_table()
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("Words")
    assert "old" not in page
    assert ("Stale" in page) == is_stale
