"""Trackio's page in a real browser: it shows the runs and their metrics to whoever opens it on this machine.

Chromium is driven as in `test_report_browser.py`. Where it or trackio is not installed this test is skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_dashboard_keys import runs, served  # noqa: F401
from test_report_browser import browser, until  # noqa: F401

from lorax_lab.record.record import scan

pytestmark = [pytest.mark.browser, pytest.mark.slow]
METRICS = ("loss", "score", "noise_share")
"""Headings of charts, below that of their group: `train/loss`, `answer/score`, `charts/noise_share`."""
TEXT = "return document.body.innerText"


@pytest.fixture(scope="module", autouse=True)
def _trackio() -> None:
    pytest.importorskip("trackio", reason="trackio is not installed; type pip install lorax_lab[trackio]")


def test_the_page_shows_each_run_by_its_name_and_its_metrics(browser: Any, runs: Path) -> None:  # noqa: F811
    names = [run.name for run in scan(runs)[0]]
    assert names
    with served(runs) as page:
        browser.get(page.address)
        until(browser, TEXT, lambda text: {*names, *METRICS} <= set(text.splitlines()))
