"""Pages in a browser, where one is installed."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
if CHROMIUM is None and MAC.exists():
    CHROMIUM = str(MAC)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: make test-browser installs one"
)
PICTURES = os.environ.get("HESSE_PICTURES")
# A phone and a desk, by night and by day; the other way round too where pictures are made.
Screens = list[tuple[int, Literal["light", "dark"]]]
EVERY_SCREEN: Screens = [(390, "dark"), (1280, "light"), (390, "light"), (1280, "dark")]
SCREENS = EVERY_SCREEN if PICTURES else EVERY_SCREEN[:2]


@contextlib.contextmanager
def chromium() -> Iterator["Browser"]:
    """A browser of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        made = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    pytest.importorskip("playwright.sync_api")
    with chromium() as made:
        yield made


def accessible(
    page: "Page", screens: Screens = SCREENS, within: dict[str, list[str]] | None = None
) -> None:
    """On every screen, with all unfolded, axe-core finds nothing, in all of the page or in what is
    included, and nothing is wider than the window."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    for width, scheme in screens:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        found = axe.run(page, within, options={"resultTypes": ["violations"]})
        assert found.violations_count == 0, (width, scheme, found.generate_report())
        assert page.evaluate("document.documentElement.scrollWidth") <= width


_LEFT = """() => [...document.querySelectorAll(
  "a[href], button, input, select, textarea, summary, [tabindex='0']")]
  .filter((one) => !one.disabled && one.checkVisibility() && one.dataset.reached !== "yes"
    && !(one.type === "radio" && !one.checked))
  .map((one) => one.outerHTML.slice(0, 120))"""


def reached_by_keyboard(page: "Page") -> None:
    """Tab comes to all that can be used, and out of it again."""
    for _ in range(200):
        page.keyboard.press("Tab")
        # Round once, through the end of the page.
        if page.evaluate("document.activeElement.dataset.reached === 'yes'"):
            break
        page.evaluate("document.activeElement.dataset.reached = 'yes'")
        page.evaluate("delete document.body.dataset.reached")
    left = page.evaluate(_LEFT)
    assert left == [], left


def kept(page: "Page", name: str, whole: bool = False) -> None:
    """A screenshot for the docs, where one is asked for."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=whole)
