"""The page in a real browser, opened from the disk: it draws, asks for nothing, sorts, filters, prints.

Debian's chromium and its chromedriver are driven by selenium. Where they are not installed these tests are skipped.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_analysis import Store
from test_report import HOSTILE, packed, study, with_curve, written  # noqa: F401

from analysis.__main__ import main
from analysis.study.records import RECORDS

pytestmark = pytest.mark.browser
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
PATIENCE = 120
"""Seconds to wait for what a page does, on a busy machine."""
STATES = "return [...document.querySelectorAll('figure[data-spec]')].map((figure) => figure.dataset.state || '')"
MARKS = """
return [...document.querySelectorAll('figure[data-spec]')].map((figure) => [figure.id,
  figure.querySelectorAll('.trace path, .heatmaplayer image, .bars path, .point').length])
"""
ROWS = """
return [...document.querySelectorAll('.rows tbody tr')].filter((row) => !row.hidden)
  .map((row) => row.cells[%d].textContent)
"""
PLOTS = """
return [...document.querySelectorAll('figure[data-spec] .canvas')]
  .map((canvas) => [canvas.parentElement.id, canvas._fullLayout._size.h])
"""
LINES = """
const lines = (cell) => (cell.clientHeight - 9) / parseFloat(getComputedStyle(cell).lineHeight);
return Math.max(...[...document.querySelectorAll('.scroll:not(.tall) th')].map(lines))
"""
BROKEN = """
const broken = [], range = document.createRange();
for (const cell of document.querySelectorAll('.scroll th, .scroll td')) {
  const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) for (const word of texts.currentNode.data.matchAll(/\\[[^\\]]*\\]|[^\\s-]+/g)) {
    range.setStart(texts.currentNode, word.index);
    range.setEnd(texts.currentNode, word.index + word[0].length);
    if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size !== 1) broken.push(word[0]);
  }
}
return broken
"""
"""Words and intervals of the tables that stand on two lines, or are not shown."""
NOTES = "[...document.querySelectorAll('.undrawn')].map((note) => note.textContent.slice(0, 29))"
UNDRAWN = """
window.IntersectionObserver = class { observe() {} };
const later = window.setTimeout;
window.setTimeout = (act, wait) => wait === 300 || later(act, wait);
"""
"""What keeps figures from being drawn: none comes near the window, and there is no idle time."""
WIDER = """
return [...document.querySelectorAll('body *')].filter((element) => !element.parentElement.closest('.scroll, svg'))
  .filter((element) => element.getBoundingClientRect().right > innerWidth + 0.5)
  .map((element) => `${element.tagName} ${element.className} of ${element.closest('figure, section')?.id}`)
"""
"""What reaches beyond the right edge of the window, but for what scrolls in a frame of its own."""
PICTURES = """
return [...document.querySelectorAll('figure img')]
  .map((picture) => [picture.naturalWidth, picture.getBoundingClientRect().width])
"""
INK = "document.querySelector('.xtick text').style.fill"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless chromium of 1400 by 900 pixels, which keeps what its console says and what it asks for."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium and chromedriver are not installed; on Debian: apt install chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    flags = ["--headless=new", "--window-size=1400,900", "--disable-gpu", "--hide-scrollbars"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    flags.append(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    for flag in flags:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def runs(study: Store) -> Path:  # noqa: F811
    """The page of a sweep with a failed run, a damaged one and one of a hostile name."""
    study.run(rank=4, seed=7, status="diverged")
    with_curve(study.run(rank=4, seed=0, test=0.74, model=f"m {HOSTILE}"))
    (study.run(rank=8, seed=3) / "record.json").write_text("{")
    path = study.folder.parent / "page.html"
    assert main(["report", "--runs", str(study.folder), "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def of_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "study.html"
    assert main(["report", "--study", "planted", "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def of_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study of two tasks, of which most figures have no interactive form."""
    folder = tmp_path_factory.mktemp("page")
    for path in RECORDS.glob("paper_subspaces.*"):
        shutil.copy(path, folder)
    words = ["--study", "paper_subspaces", "--records", str(folder), "--out", str(folder / "tasks.html")]
    assert main(["report", *words]) == 0
    return folder / "tasks.html"


def until(browser: Any, script: str, wanted: Any) -> Any:
    """What a script returns as soon as `wanted` holds of it."""
    for _ in range(PATIENCE * 5):
        if wanted(found := browser.execute_script(script)):
            return found
        time.sleep(0.2)
    raise AssertionError(f"{script} still returns {found}")


def opened(browser: Any, path: Path, width: int = 1400, theme: str = "light") -> None:
    """Open a page from the disk and wait until every figure is drawn."""
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(path.as_uri())
    states = until(browser, STATES, lambda states: all(state in ("drawn", "failed") for state in states))
    assert set(states) == {"drawn"}


def asked(browser: Any) -> list[str]:
    """The addresses that were asked for."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


@pytest.mark.parametrize("name", ["runs", "of_study"])
@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (390, "dark")])
def test_every_figure_draws_without_a_word_or_a_request(
    browser: Any, request: pytest.FixtureRequest, name: str, width: int, theme: str
) -> None:
    path = request.getfixturevalue(name)
    opened(browser, path, width, theme)
    assert browser.get_log("browser") == []
    assert [url for url in asked(browser) if not url.startswith("data:")] == [path.as_uri()]
    marks = browser.execute_script(MARKS)
    assert marks
    assert not [figure for figure, count in marks if not count]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    dark = browser.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
    assert (dark == "rgb(21, 23, 26)") == (theme == "dark")


@pytest.mark.parametrize("width", [400, 1400])
def test_a_study_of_several_tasks_and_pictures_fits_its_screen(
    browser: Any, of_tasks: Path, width: int, tmp_path: Path
) -> None:
    opened(browser, of_tasks, width)
    assert browser.get_log("browser") == []
    marks = browser.execute_script(MARKS)
    assert marks
    assert not [figure for figure, count in marks if not count]
    pictures = browser.execute_script(PICTURES)
    assert len(pictures) >= 3
    assert all(natural > 0 and 0.5 * min(width, 600) < shown <= width for natural, shown in pictures), pictures
    assert browser.execute_script(WIDER) == []
    whole = {"captureBeyondViewport": True, "format": "png"}
    screenshot = base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", whole)["data"])
    (tmp_path / "page.png").write_bytes(screenshot)
    assert int.from_bytes(screenshot[16:20], "big") == width  # a wider page would have a wider picture


def test_a_narrow_page_leaves_each_plot_its_height_and_each_head_few_lines(browser: Any, of_study: Path) -> None:
    opened(browser, of_study, 390)
    low = {figure: height for figure, height in browser.execute_script(PLOTS) if height < 180}
    assert not low
    assert browser.execute_script(LINES) <= 6


@pytest.mark.parametrize("name", ["runs", "of_study"])
@pytest.mark.parametrize(("width", "media"), [(390, "screen"), (1400, "screen"), (703, "print")])
def test_no_word_and_no_interval_of_a_table_is_broken(
    browser: Any, request: pytest.FixtureRequest, name: str, width: int, media: str
) -> None:
    """703 pixels are what a print on A4 has; a hostile name, which no column has room for, may break."""
    opened(browser, request.getfixturevalue(name), width)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    assert [word for word in browser.execute_script(BROKEN) if not set("<>") & set(word)] == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_every_view_of_every_figure_draws(browser: Any, runs: Path) -> None:
    opened(browser, runs)
    for number in range(browser.execute_script("return document.querySelectorAll('.views select').length")):
        which = f"document.querySelectorAll('.views select')[{number}]"
        for view in range(browser.execute_script(f"return {which}.options.length")):
            browser.execute_script(f"{which}.selectedIndex = {view}; {which}.dispatchEvent(new Event('change'))")
            drawn = "querySelectorAll('.trace path, .heatmaplayer image').length"
            until(browser, f"return {which}.closest('figure').{drawn}", lambda count: count > 0)
    assert browser.get_log("browser") == []


def test_the_table_sorts_by_number_and_by_word_and_keeps_the_empty_last(browser: Any, runs: Path) -> None:
    opened(browser, runs)
    heads = browser.execute_script("return [...document.querySelectorAll('.rows th')].map((head) => head.textContent)")

    def sorted_by(heading: str) -> list[str]:
        column = heads.index(heading)
        browser.execute_script(f"document.querySelectorAll('.rows th button')[{column}].click()")
        return list(browser.execute_script(ROWS % column))

    up = sorted_by("trained parameters")
    numbers = [int(cell.replace(",", "")) for cell in up if cell]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 2
    assert up[-1] == ""
    down = sorted_by("trained parameters")
    assert [int(cell.replace(",", "")) for cell in down if cell] == numbers[::-1]
    assert down[-1] == ""
    assert browser.execute_script("return document.querySelectorAll('[aria-sort]').length") == 1
    words = sorted_by("status")
    assert words == sorted(words)
    assert {"collapsed", "completed", "diverged"} == {word.partition(":")[0] for word in words}


def test_the_filter_takes_words_and_values_of_columns(browser: Any, runs: Path) -> None:
    opened(browser, runs)

    def shown(text: str) -> tuple[int, str]:
        script = "const box = document.querySelector('.runs input'); box.value = arguments[0];"
        browser.execute_script(f"{script} box.dispatchEvent(new Event('input'))", text)
        return len(browser.execute_script(ROWS % 0)), browser.execute_script(
            "return document.querySelector('output').textContent"
        )

    assert shown("") == (8, "8 of 8 runs")
    assert shown("rank=1") == (2, "2 of 8 runs")
    assert shown("LoRA rank=4 seed=0") == (2, "2 of 8 runs")
    assert shown("diverged") == (1, "1 of 8 runs")
    assert shown("rank=100")[0] == 0
    assert shown("nothing=1")[0] == 0


def test_a_csv_is_downloaded_as_it_is_behind_the_figure(browser: Any, runs: Path, tmp_path: Path) -> None:
    opened(browser, runs)
    place = {"behavior": "allow", "downloadPath": str(tmp_path), "eventsEnabled": False}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", place)
    browser.execute_script("document.querySelector('figure[id$=\"-accuracy_vs_rank\"] [data-csv]').click()")
    browser.execute_script("document.querySelector('[data-rows]').click()")
    for _ in range(PATIENCE * 5):
        if {path.name for path in tmp_path.iterdir()} == {"accuracy_vs_rank.csv", "runs.csv"}:
            break
        time.sleep(0.2)
    csv = (tmp_path / "accuracy_vs_rank.csv").read_text()
    assert csv in packed(runs.read_text()).values()
    rows = (tmp_path / "runs.csv").read_text().splitlines()
    assert rows[0].startswith("run,status,model,")
    assert len(rows) == 9
    assert browser.get_log("browser") == []


def test_the_print_is_light_and_whole_and_the_page_is_dark_again_after_it(browser: Any, runs: Path) -> None:
    opened(browser, runs, theme="dark")
    before = browser.execute_script(f"return {INK}")
    browser.execute_script(f"window.addEventListener('beforeprint', () => {{ window.printed = {INK} }})")
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert pdf.startswith(b"%PDF")
    assert browser.execute_script("return window.printed") == "rgb(26, 26, 26)"
    assert until(browser, f"return {INK}", lambda fill: fill == before) != "rgb(26, 26, 26)"
    assert browser.get_log("browser") == []


def test_a_figure_that_is_not_drawn_yet_says_so_in_print_and_is_drawn_for_the_next(browser: Any, runs: Path) -> None:
    script = {"source": UNDRAWN}
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        browser.get(runs.as_uri())
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    states = browser.execute_script(STATES)
    assert states
    assert not any(states)
    browser.execute_script(f"window.addEventListener('beforeprint', () => {{ window.printed = {NOTES} }})")
    for wanted in (len(states), 0):
        browser.execute_cdp_cmd("Page.printToPDF", {})
        assert browser.execute_script("return window.printed") == ["This figure was not drawn yet"] * wanted
        assert browser.execute_script(f"return {NOTES}") == []
        until(browser, STATES, lambda states: set(states) == {"drawn"})
    assert browser.get_log("browser") == []


def test_the_theme_can_be_chosen(browser: Any, runs: Path) -> None:
    opened(browser, runs)
    theme = "document.getElementById('theme')"
    seen = []
    for _ in range(3):
        browser.execute_script(f"{theme}.click()")
        seen.append(browser.execute_script(f"return [{theme}.textContent, document.documentElement.dataset.theme]"))
    assert seen == [["theme: light", "light"], ["theme: dark", "dark"], ["theme: auto", "light"]]
