"""The report in a real browser, opened from the disk: it asks for nothing, sorts and filters.

Debian's chromium and its chromedriver are driven by selenium. Where they are not installed these tests are skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stores import Store

from analysis.__main__ import main

pytestmark = pytest.mark.browser
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
COLUMN = """
const column = [...document.querySelectorAll('th')].findIndex((head) => head.textContent === arguments[0]);
return [...document.querySelectorAll('#runs tbody tr')].filter((row) => !row.hidden)
  .map((row) => row.cells[column].textContent)
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless chromium that has opened the report of five runs, one of a hostile name."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver

    folder = tmp_path_factory.mktemp("report")
    store = Store(folder / "runs", layers=1)
    store.run()
    for rank in (16, 2, 8):
        store.run(rank=rank)
    store.run(rank=4, task={"name": "</script><script>document.title = 'changed'</script>"})
    assert main(["report", "--runs", str(store.folder), "--out", str(folder / "report.html")]) == 0
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.get((folder / "report.html").as_uri())
    yield driver
    driver.quit()


def test_it_asks_for_nothing_and_no_text_becomes_a_script(page: Any, tmp_path: Path) -> None:
    assert page.title.startswith("Runs in ")
    assert page.get_log("browser") == []
    assert (
        page.execute_script("return performance.getEntriesByType('resource').filter((e) => !/^data:/.test(e.name))")
        == []
    )
    widths = page.execute_script("return [...document.images].map((picture) => picture.naturalWidth)")
    assert widths
    assert min(widths) > 100


def test_a_column_sorts_both_ways_by_number_with_empty_cells_last(page: Any) -> None:
    head = next(head for head in page.find_elements("css selector", "th") if head.text == "rank")
    head.click()
    assert page.execute_script(COLUMN, "rank") == ["2", "4", "8", "16", ""]
    head.click()
    assert page.execute_script(COLUMN, "rank") == ["16", "8", "4", "2", ""]


def test_the_filter_shows_the_rows_that_have_every_word(page: Any) -> None:
    page.find_element("id", "filter").send_keys("lora r8")
    assert page.execute_script(COLUMN, "rank") == ["8"]
    assert page.find_element("id", "shown").text == "1 of 5 runs"
