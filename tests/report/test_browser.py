"""The page of a made prediction in a real browser without a window: what a radiologist sees and does."""

import io
import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from moe_pipeline.report.layout import PALETTE
from moe_pipeline.report.write import write_report
from moe_pipeline.web.viewer import HOW_TO_ADD, viewer_script
from tests.phantoms.predictions import CASES, CLASS, FAILED, GRID, LESION, write_prediction

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--force-color-profile=srgb",
    "--window-size=900,700",
)
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser that has the page open."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs chromium and chromium-driver (Debian: apt-get install chromium chromium-driver)")
    if viewer_script() is None:
        pytest.skip(HOW_TO_ADD)
    out = write_prediction(tmp_path_factory.mktemp("browser"))
    page = write_report([out])
    options = selenium.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    try:
        window.set_script_timeout(PATIENCE_SECONDS)
        window.get(page.as_uri())
        wait_for(window, CASES[2])
        choose(window, 'input[value="axial"]')  # without a GPU the 3D view takes seconds
        yield window
    finally:
        window.quit()


def wait_for(window: Any, case: str) -> None:
    """Until a case is shown."""
    window.execute_async_script(
        "const [case_, done] = arguments; const root = document.documentElement;"
        "const look = () => root.dataset.shown === case_ ? done() : setTimeout(look, 50); look();",
        case,
    )


def choose(window: Any, selector: str) -> None:
    window.execute_script("document.querySelector(arguments[0]).click()", selector)


def set_opacity(window: Any, percent: int) -> None:
    code = "const s = document.getElementById('opacity'); s.value = arguments[0]; s.dispatchEvent(new Event('input'));"
    window.execute_script(code, percent)


def picture(window: Any) -> NDArray[np.int_]:
    """What the canvas shows once it is drawn, so that it stays the same, (rows, columns, 3)."""
    canvas, before = window.find_element("id", "canvas"), b""
    end = time.monotonic() + PATIENCE_SECONDS
    while (now := canvas.screenshot_as_png) != before and time.monotonic() < end:
        before = now
        time.sleep(0.3)
    return np.asarray(Image.open(io.BytesIO(now)).convert("RGB")).astype(int)


def coloured(pixels: NDArray[np.int_], colour: tuple[int, int, int], tolerance: int = 25) -> NDArray[np.bool_]:
    return np.asarray(np.abs(pixels - colour).max(axis=-1) <= tolerance)


def test_it_asks_for_nothing_and_complains_of_nothing(browser: Any) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert asked
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_hostile_names_are_shown_and_do_nothing(browser: Any) -> None:
    assert "broken" not in browser.title
    cells = [cell.text for cell in browser.find_elements("css selector", ".choose tbody th")]
    assert [" ".join(cell.split()) for cell in cells] == [
        " ".join(f"✕{FAILED}".split()),
        *(" ".join(case.split()) for case in reversed(CASES)),
    ]
    assert CLASS in browser.find_element("css selector", ".of-classes").text


def test_the_lesion_has_the_colour_of_its_class_where_it_lies(browser: Any) -> None:
    """In the axial plane, as radiologists look: the patient's left on the right, the front on top."""
    choose(browser, f'tr[data-case="{CASES[0]}"] .case')
    wait_for(browser, CASES[0])
    choose(browser, "#clicks")
    set_opacity(browser, 100)
    pixels = picture(browser)
    shown = coloured(pixels, PALETTE[0])
    seen = pixels.max(axis=-1) > 12  # noise is nowhere black
    rows = np.flatnonzero(seen.mean(axis=1) > 0.3 * seen.mean(axis=1).max())
    columns = np.flatnonzero(seen.mean(axis=0) > 0.3 * seen.mean(axis=0).max())
    at = [np.nonzero(shown)[axis].mean() for axis in (1, 0)]
    found = np.array([(at[0] - columns.min()) / np.ptp(columns), (at[1] - rows.min()) / np.ptp(rows)])
    (x0, x1), (y0, y1), _ = LESION
    wanted = np.array([1 - (x0 + x1) / 2 / GRID.shape[0], 1 - (y0 + y1) / 2 / GRID.shape[1]])
    assert np.abs(found - wanted).max() < 0.04
    share = shown.sum() / (np.ptp(columns) * np.ptp(rows))
    assert share == pytest.approx(
        (x1 - x0) * (y1 - y0) / (GRID.shape[0] * GRID.shape[1]), rel=0.25
    )  # the crosshair is over it
    set_opacity(browser, 30)
    assert not coloured(picture(browser), PALETTE[0]).any()
    choose(browser, 'input[value="none"]')
    plain = picture(browser)
    grey = np.ptp(plain, axis=-1) < 12
    assert grey[rows.min() + 20 : rows.max() - 20, columns.min() + 20 : columns.max() - 20].mean() > 0.95
    choose(browser, 'input[value="prediction"]')


def test_the_difference_tells_what_was_missed(browser: Any) -> None:
    choose(browser, f'tr[data-case="{CASES[2]}"] .case')
    wait_for(browser, CASES[2])
    set_opacity(browser, 100)
    choose(browser, 'input[value="difference"]')
    pixels = picture(browser)
    missed, extra = coloured(pixels, (255, 214, 0)), coloured(pixels, (214, 39, 160))
    assert missed.sum() > 500
    assert extra.sum() == pytest.approx(missed.sum(), rel=0.2)
    assert np.nonzero(extra)[1].mean() < np.nonzero(missed)[1].mean()  # the prediction lies to the patient's right
    choose(browser, 'input[value="prediction"]')


def test_choosing_and_sorting_work_with_the_keyboard(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    (button,) = browser.find_elements("css selector", 'tr[data-case="scan_good"] .case')
    button.send_keys(Keys.ENTER)
    wait_for(browser, CASES[0])
    opened = [one.get_attribute("data-case") for one in browser.find_elements("css selector", ".one.open")]
    assert opened == [CASES[0]]
    dice = browser.find_elements("css selector", ".choose thead .sort")[1]
    for order, wanted in (("ascending", [*reversed(CASES)]), ("descending", [*CASES])):
        dice.send_keys(Keys.ENTER)
        names = browser.execute_script(
            "return [...document.querySelectorAll('tr[data-case]')].map(r => r.dataset.case)"
        )
        assert names == wanted
        assert browser.execute_script("return document.querySelector('.choose [aria-sort]').ariaSort") == order


def test_it_says_in_words_what_lies_under_the_crosshair(browser: Any) -> None:
    told = browser.find_element("id", "place").text
    assert f"prediction: {CLASS}" in told
    assert f"reference: {CLASS}" in told
