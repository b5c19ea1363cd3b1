"""The pages in a browser, where one is installed: a newcomer's way, the keyboard alone, a phone,
the dark, and what axe-core finds."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import uvicorn

import hesse
from hesse.web.server import application

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("playwright")
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: make test-browser installs one"),
    pytest.mark.xdist_group("browser"),
]
PICTURES = os.environ.get("HESSE_PICTURES")
# Each with what is there when all is.
PAGES = [
    ("derive", "/", "#reading tbody tr"),
    ("graph", "/graph", "#answer svg"),
    ("numbers", "/numbers", "#result:has(#entry table) #plane:not([hidden])"),
    ("explore", "/explore", "#spectrum:not([hidden])"),
]
TWO_LAYERS = "1/2*sum((y - f(W2 @ f(W1 @ x)))**2)"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    saved = tmp_path_factory.mktemp("saved") / "h.safetensors"
    layout = hesse.Layout(("0.weight", "0.bias"), ((10, 14), (10,)))
    hesse.BlockHessian(layout, matrix=torch.arange(150.0).diag()).save(saved)
    app = application(saved=saved)
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def opened(browser, address) -> Iterator:
    """Opens pages; what they write to the console is an error."""
    contexts, said = [], []

    def page(path: str = "/", **options) -> "Page":
        context = browser.new_context(
            viewport={"width": options.pop("width", 1280), "height": 900}, **options
        )
        context.set_default_timeout(60_000)
        contexts.append(context)
        new = context.new_page()
        new.on("pageerror", lambda error: said.append(str(error)))
        new.on("console", lambda one: said.append(one.text) if one.type == "error" else None)
        new.goto(address + path)
        return new

    yield page
    for context in contexts:
        context.close()
    # A question that cannot be read is answered with a status that the console repeats.
    assert [line for line in said if "422" not in line] == []


def kept(page: "Page", name: str) -> None:
    """A screenshot for the docs, where one is asked for."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def test_from_an_empty_page_to_the_three_blocks(opened) -> None:
    page = opened()
    page.fill("#cost", "")
    page.fill("#cost", TWO_LAYERS)
    # Which are parameters, and of which shape, is offered.
    page.wait_for_selector("#reading tbody tr")
    assert page.input_value("#wrt") == "W1, W2"
    page.click("text=Derive >> nth=-1")
    page.wait_for_selector("#answer .block")
    assert page.locator("#answer .block").count() == 3
    assert "Derived in" in page.text_content("#state")
    kept(page, "derive")
    # The link holds the question.
    again = opened(page.get_attribute("#link", "href"))
    assert again.input_value("#cost") == TWO_LAYERS
    assert again.locator("#answer .block").count() == 3


def test_what_is_copied_runs(browser, opened) -> None:
    page = opened(
        "/?cost=1/2*sum((y - X @ w)**2)&wrt=w", permissions=["clipboard-read", "clipboard-write"]
    )
    page.click("text=Copy NumPy")
    page.wait_for_function("document.querySelector('.said').textContent")
    made: dict = {}
    exec(page.evaluate("navigator.clipboard.readText()"), made)
    assert made["hessian_w_w"](X=np.array([[1.0], [2.0]])).tolist() == [[5.0]]


def test_a_mistake_and_a_change_of_shape(opened) -> None:
    page = opened()
    page.fill("#cost", "sum((y - X @ w)**2")
    page.wait_for_selector("#reading pre.error")
    _text, line, caret = page.text_content("#reading pre.error").split("\n")
    assert line[caret.index("^")] == "("
    page.fill("#cost", "")
    page.fill("#cost", "1/2*sum((y - X @ w)**2) + lam/2*w.T @ w")
    page.wait_for_selector("#reading button")
    page.click("text=take it as a vector")
    page.wait_for_function("document.querySelector('#shapes').value")
    assert page.input_value("#shapes") == "lam[d]"


def test_the_keyboard_is_enough(opened) -> None:
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the page"
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "cost":
            break
    page.keyboard.press("Control+A")
    page.keyboard.type("x @ A @ x")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("x")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer .block")
    assert "A" in page.text_content("#answer .block .result")
    assert page.evaluate("document.activeElement.id") == "answer"


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_axe_finds_nothing(opened, width, scheme) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened("/?cost=1/2*sum((y - X @ w)**2)&wrt=w", width=width, color_scheme=scheme)
    for name, path, shown in PAGES:
        if path != "/":
            page.goto(page.evaluate("location.origin") + path)
        page.wait_for_selector(shown)
        found = axe.run(page)
        assert found.violations_count == 0, found.generate_report()
        # Nothing is wider than the window.
        assert page.evaluate("document.documentElement.scrollWidth") == width
        kept(page, f"{name}-{width}-{scheme}")


def test_an_entry_is_explained_where_one_points_and_by_the_keyboard(opened) -> None:
    page = opened("/numbers?network=2-2-1&seed=0&samples=2")
    page.hover("td[data-place='0 6']")
    page.wait_for_selector("#entry h3 >> text=Sum of the terms")
    assert "product-rule term" in page.text_content("#entry-said")
    assert page.text_content("#entry-said").startswith("W1[1,1] with W2[1,1]")
    page.focus("td[data-place='0 0']")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.place") == "1 8"
    assert page.text_content("#entry-said").startswith("W1[1,2] with b2[1]")


def numbers_at_the_point(page: "Page") -> list[float]:
    cells = page.locator("#point tbody td").all_text_contents()
    return [float(text.replace("−", "-")) for text in cells]


def test_the_point_is_dragged_and_moved_by_keys(opened) -> None:
    page = opened("/numbers?network=2-2-1&seed=0&samples=2")
    page.wait_for_selector("#plane:not([hidden])")
    page.locator("#true").scroll_into_view_if_needed()
    box = page.locator("#true").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 80, middle[1] - 60, steps=4)
    page.mouse.up()
    J, slope, bend, model, true, error = numbers_at_the_point(page)
    assert (slope, bend) != (0, 0)
    assert model == pytest.approx(J + slope + bend, abs=1e-3)
    assert error == pytest.approx(true - model, abs=1e-3)
    kept(page, "numbers-plane")
    page.focus("#true")
    page.keyboard.press("ArrowLeft")
    assert numbers_at_the_point(page)[1] != slope
    page.keyboard.press("Home")
    assert numbers_at_the_point(page) == [J, 0, 0, J, J, 0]
    # As the radius grows so does the step.
    length = "#steps tr:has-text('trust region') td >> nth=0"
    page.focus("#radius")
    page.keyboard.press("Home")
    short = float(page.text_content(length))
    page.keyboard.press("End")
    assert float(page.text_content(length)) > short
    page.click("#steps button >> nth=0")
    assert numbers_at_the_point(page)[1] < 0


def test_one_zooms_to_single_entries_by_the_keyboard(opened) -> None:
    page = opened("/explore")
    page.wait_for_selector("#blocks button")
    page.wait_for_selector("#cell:not(:empty)")
    page.focus("#map")
    page.keyboard.press("Enter")
    page.wait_for_selector("#where >> text=Rows 0 to 37")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#cell") == "0.weight[0,1] with 0.weight[0,1]: 1"
    page.click("text=0.bias × 0.bias")
    page.wait_for_selector("#where >> text=Rows 140 to 149")
    assert page.text_content("#cell") == "0.bias[0] with 0.bias[0]: 140"
    kept(page, "explore")
