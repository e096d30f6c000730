"""The page in a real browser without a window: what a person sees, clicks and gets."""

import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from typer.testing import CliRunner

from moe_pipeline.cli import app
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.native import read_native, write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.api import Predictor
from moe_pipeline.inference.session.session import Session
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.web.viewer import HOW_TO_ADD, viewer_path
from tests.server.conftest import KEY, SEGMENT, Running, running

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--window-size=1100,760",
)
PATIENCE_SECONDS = 120
COS, SIN = np.cos(np.deg2rad(10)), np.sin(np.deg2rad(10))
GRID = Geometry((26, 22, 16), (1.5, 1.25, 2.5), (10.0, 5.0, 3.0), (COS, 0, SIN, SIN, 0, -COS, 0, 1, 0))
LARGE, SMALL = ((10, 9, 6), 7.0), ((18, 13, 9), 4.5)
"""Voxel in the middle and radius in mm of two bright balls, which both meet the middle slices."""


def ball(middle: tuple[int, int, int], radius_mm: float) -> NDArray[np.bool_]:
    away = (np.indices(GRID.shape).T - middle) * GRID.spacing_mm  # (z, y, x, 3)
    inside: NDArray[np.bool_] = (np.linalg.norm(away, axis=-1) <= radius_mm).T
    return inside


class Page:
    """The annotator, opened in a browser."""

    def __init__(self, window: Any, running: Running) -> None:
        self.window, self.running = window, running

    def find(self, wanted: str) -> Any:
        return self.window.find_element("css selector", wanted)

    def text(self, wanted: str) -> str:
        return str(self.find(wanted).get_attribute("textContent"))

    def until(self, what: str, met: Any) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if met():
                return
            time.sleep(0.05)
        pytest.fail(f"{what} did not come; the page says: {self.text('#toast')!r}, {self.window.get_log('browser')}")

    def settle(self) -> None:
        """Until all steps are answered and drawn."""
        idle = "return document.body.dataset.waiting === '0' && !document.querySelector('dialog[open]')"
        self.until("an answer", lambda: self.window.execute_script(idle))
        drawn = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
        self.window.execute_async_script(drawn)

    def press(self, wanted: str) -> None:
        self.find(wanted).click()
        self.settle()

    def click_brightest(self) -> None:
        """Click in the middle of the largest white spot on the screen."""
        from PIL import Image
        from selenium.webdriver import ActionChains

        stage = self.find("#stage")
        picture = np.asarray(Image.open(io.BytesIO(stage.screenshot_as_png)).convert("RGB")).astype(int)
        spots, count = ndimage.label((picture > 215).all(axis=-1))
        assert count, "nothing bright is shown"
        sizes = ndimage.sum_labels(np.ones_like(spots), spots, np.arange(1, count + 1))
        y, x = ndimage.center_of_mass(spots == int(sizes.argmax()) + 1)
        scale = stage.size["width"] / picture.shape[1]
        offset = int(x * scale) - stage.size["width"] // 2, int(y * scale) - stage.size["height"] // 2
        ActionChains(self.window).move_to_element_with_offset(self.find("#pointer"), *offset).click().perform()
        self.settle()

    def shown(self) -> NDArray[Any]:
        """Class ids that the viewer has, in the order of the scan's file."""
        values = self.window.execute_script("return [...annotator.viewer.labels.img]")
        return np.array(values).reshape(GRID.shape, order="F")

    def undo_by_key(self) -> None:
        from selenium.webdriver import ActionChains, Keys

        ActionChains(self.window).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
        self.settle()

    @property
    def session(self) -> Session:
        (lease,) = self.running.service.leases
        assert lease.session is not None
        return lease.session


@pytest.fixture
def page(follower: Mixture, tmp_path: Path) -> Iterator[Page]:
    """The page, shown the key, without a scan."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs chromium and chromium-driver (Debian: apt-get install chromium chromium-driver)")
    if not viewer_path().is_file():
        pytest.skip(HOW_TO_ADD)
    for case in ("one", "two"):
        image = 100.0 * (ball(*LARGE) | ball(*SMALL))
        write_native(Volume(image.astype(np.float32), GRID), tmp_path / "scans" / f"{case}.nii.gz")
    write_native(Volume(np.where(ball(*LARGE), 5, 0).astype(np.uint8), GRID), tmp_path / "labels" / "two.nii.gz")
    options = selenium.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    dataset = tmp_path / "Dataset900_Balls"
    with running(Predictor(follower, SEGMENT), tmp_path / "scans", dataset, labels=tmp_path / "labels") as server:
        window = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
        try:
            window.set_page_load_timeout(PATIENCE_SECONDS)
            window.set_script_timeout(PATIENCE_SECONDS)
            window.get(server.url)
            opened = Page(window, server)
            opened.until("a question for the key", lambda: opened.find("#ask").is_displayed())
            opened.find("#ask-input").send_keys(KEY)
            opened.press("#ask-yes")
            yield opened
        finally:
            window.quit()


def test_a_scan_is_annotated_accepted_and_still_there(page: Page) -> None:
    page.press("[data-case=one]")
    page.find("#class-name").send_keys("large ball\n")
    page.settle()
    page.click_brightest()
    ((place, inside),) = page.session.objects[1].clicks
    clicked = tuple(np.rint(place).astype(int))
    mask = page.session.labels.array == 1
    assert inside
    assert ball(*LARGE)[clicked]  # what was seen there is what is there: nothing is mirrored, tilted or moved
    assert mask[clicked]
    assert (mask & ball(*LARGE)).sum() > 0.8 * mask.sum()
    assert page.text("#under").startswith("large ball, answered by the foundation")
    assert np.array_equal(page.shown(), page.session.labels.array)

    page.undo_by_key()
    assert not page.session.labels.array.any()
    assert page.text("#under").startswith("background")
    assert not page.shown().any()
    page.press("#redo")
    page.find("#class-name").send_keys("small ball\n")
    page.settle()
    page.click_brightest()
    assert ball(*SMALL)[tuple(np.rint(page.session.objects[2].clicks[0][0]).astype(int))]
    labels = page.session.labels.array
    assert set(np.unique(labels)) == {0, 1, 2}

    page.press("#accept")
    assert page.text("#state") == "accepted"
    page.window.refresh()
    page.until("the scan", lambda: page.text("#state") == "accepted")
    page.settle()
    rows = [page.text(f"[data-object='{number}'] span:nth-child(2)") for number in (1, 2)]
    assert rows == ["1 large ball", "2 small ball"]
    assert np.array_equal(page.session.labels.array, labels)
    dataset = page.running.dataset
    assert np.array_equal(read_native(dataset / "labelsTr" / "one.nii.gz").array, labels)
    page.find("#expert").click()
    page.until("the commands", lambda: "moe finetune Dataset900_Balls" in page.text("#command-lines"))
    page.press("#commands .main")

    page.press("[data-case=two]")
    page.press("#open-labels")
    assert np.array_equal(page.session.labels.array == 5, ball(*LARGE))
    assert np.array_equal(page.shown(), page.session.labels.array)
    assert not page.find("#open-labels").is_displayed()
    checked = CliRunner().invoke(app, ["convert", str(dataset), "--check", "--workspace", str(dataset.parent / "ws")])
    assert checked.exit_code == 0, checked.output
    severe = [line["message"] for line in page.window.get_log("browser") if line["level"] == "SEVERE"]
    assert not [message for message in severe if "401" not in message], "nothing breaks the page's own rules"
