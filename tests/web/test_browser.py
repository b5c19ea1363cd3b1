"""The pages in a browser, where one is installed: a newcomer's way, the keyboard alone, a phone,
the dark, and what axe-core finds."""

import io
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import uvicorn

import hesse
from browsing import PICTURES, SCREENS, accessible, kept, needs_browser, reached_by_keyboard
from hesse.web.connection import Connection
from hesse.web.server import application
from hesse.web.workers import Workers

if TYPE_CHECKING:
    from playwright.sync_api import Page

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
pytestmark = needs_browser
# Each with what is there when all is.
PAGES = [
    ("derive", "/?cost=1/2*sum((y - X @ w)**2)&wrt=w", "#reading tbody tr"),
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
    workers = Workers()
    # While the browser starts.
    threading.Thread(target=workers.warm).start()
    app = application(workers, saved=saved)
    config = uvicorn.Config(app, port=0, http=Connection, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    workers.close()
    thread.join()


@pytest.fixture
def opened(address, browser) -> Iterator:
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
    page.wait_for_selector(".said:not(:empty)")
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
    expect(page.locator("#shapes")).to_have_value("lam[d]")
    expect(page.locator("#reading tr:has-text('lam') td >> nth=1")).to_have_text("a vector")
    page.fill("[aria-label='Shape of X']", "n, 3")
    page.keyboard.press("Enter")
    expect(page.locator("#shapes")).to_have_value("lam[d] X[n, 3]")


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


@pytest.mark.parametrize(("name", "path", "shown"), PAGES, ids=[name for name, *_ in PAGES])
def test_every_page_is_for_everyone(opened, name, path, shown) -> None:
    page = opened(path)
    page.wait_for_selector(shown)
    if name == "graph":
        page.click("[data-walk=all]")
        page.locator(".walk").evaluate("(one) => one.scrollIntoView()")
        kept(page, "graph")
    reached_by_keyboard(page)
    page.evaluate("scrollTo(0, 0)")
    for width, scheme in SCREENS if PICTURES else ():
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        kept(page, f"{name}-{width}-{scheme}")
    accessible(page)


def test_axe_finds_nothing_on_a_page_that_was_kept(browser, tmp_path) -> None:
    kept_page = tmp_path / "d.html"
    kept_page.write_text(hesse.derive("1/2*sum((y - f(X @ w))**2)", "w").html())
    page = browser.new_page()
    page.goto(kept_page.as_uri())
    accessible(page)
    page.close()


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


# ---------------------------------------------------------------- step by step


def test_a_graph_is_walked_through_and_its_nodes_are_opened(opened) -> None:
    page = opened("/graph?network=1-1, tanh, no biases&wrt=W1&arrays=W1 %3D [[2]]%0Ax %3D [3]")
    shown = "#answer svg text[data-step]:not(.ahead)"
    assert page.locator(shown).count() == 0
    lines = []
    for _ in range(40):
        if page.is_disabled("[data-walk=next]"):
            break
        page.click("[data-walk=next]")
        lines.append(page.text_content("li[aria-current] .line"))
        assert page.locator(shown).count() == len(lines)
    assert lines[0] == "z = W1 x" and page.text_content("li[data-step] .value >> nth=0") == "(6)"
    # Values forward, δ backward, and both again for H v.
    assert [line for line in lines if line.startswith(("J", "∂J/∂W1", "v", "Hv"))] == [
        "J = ½ (y − ŷ)ᵀ (y − ŷ)",
        "∂J/∂W1 = δz xᵀ",
        "v = given",
        "Hv = dδz xᵀ",
    ]
    page.keyboard.press("ArrowLeft")
    assert page.locator(shown).count() == len(lines) - 1
    page.keyboard.press("Home")
    assert page.locator(shown).count() == 0
    # A node that is opened shows its own derivatives and their rule, by the keyboard too.
    node = page.locator("#answer svg .node", has_text="ŷ = tanh(z)")
    node.focus()
    page.keyboard.press("Enter")
    opened_node = page.locator(".nodes details[open]")
    assert opened_node.count() == 1
    assert "∂ŷ/∂z = diag(tanh'(z))" in opened_node.text_content()
    assert "Curved in z" in opened_node.text_content()


def test_a_graph_takes_the_numbers_of_a_file(opened) -> None:
    page = opened("/graph?cost=1/2*sum((y - X @ w)**2)&wrt=w")
    file = io.BytesIO()
    np.savez(file, X=np.array([[1.0, 2], [3, 4], [5, 6]]), w=np.array([1, -1]), y=np.zeros(3))
    upload: Any = {"name": "n.npz", "mimeType": "", "buffer": file.getvalue()}
    page.set_input_files("#file", upload)
    page.wait_for_selector("#answer dd >> text='[1 2; 3 4; 5 6]'", state="attached")
    page.click("[data-walk=all]")
    assert page.text_content("li:has-text('J = ½ rᵀr') .value") == "1.5"
    page.fill("#arrays", "w = [[1]]")
    page.click("text=Draw >> nth=-1")
    page.wait_for_selector("#answer .error >> text=w: expected shape")


# ---------------------------------------------------------------- fingers


def touched(page: "Page", *moments: list[tuple[float, float]]) -> None:
    """Fingers go down at the first moment, on to the others, and are lifted."""
    session = page.context.new_cdp_session(page)
    for k, points in enumerate([*moments, []]):
        kind = "touchStart" if not k else "touchMove" if points else "touchEnd"
        at = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})


def middle_of(page: "Page", what: str) -> tuple[float, float]:
    page.locator(what).scroll_into_view_if_needed()
    box: Any = page.locator(what).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_fingers_drag_the_point_and_scroll_beside_it(opened) -> None:
    page = opened("/numbers?network=2-2-1&seed=0&samples=2", width=390, has_touch=True)
    page.wait_for_selector("#plane:not([hidden])")
    x, y = middle_of(page, "#true")
    touched(page, [(x, y)], [(x + 20, y - 30)], [(x + 60, y - 60)])
    moved = numbers_at_the_point(page)
    assert 0 not in moved[1:3]
    page.touchscreen.tap(x - 80, y + 40)
    tapped = numbers_at_the_point(page)
    assert tapped[1:3] != moved[1:3]
    # Elsewhere a finger moves the page.
    before = page.evaluate("scrollY")
    touched(page, [(x + 100, y + 100)], [(x + 100, y + 60)], [(x + 100, y - 60)])
    while page.evaluate("scrollY") < before + 50:
        page.wait_for_timeout(10)
    assert numbers_at_the_point(page) == tapped


def test_fingers_zoom_and_move_the_heat_map(opened) -> None:
    page = opened("/explore", width=390, has_touch=True)
    page.wait_for_selector("#where:not(:empty)")
    x, y = middle_of(page, "#map")
    touched(page, [(x, y), (x + 20, y)], [(x - 20, y), (x + 40, y)], [(x - 60, y), (x + 80, y)])
    where = page.locator("#where")
    expect(where).not_to_contain_text("Rows 0 to 149")

    def rows() -> tuple[int, int]:
        _, first, _, last, *_ = where.inner_text().split()
        return int(first), int(last)

    first, last = rows()
    # Seven times as large, around the place between the fingers.
    assert last - first + 1 == pytest.approx(150 / 7, abs=1)
    touched(page, [(x, y)], [(x, y - 20)], [(x, y - 80)])
    expect(where).not_to_contain_text(f"Rows {first} ")
    assert rows()[0] > first and rows()[1] - rows()[0] == last - first
    cell = page.inner_text("#cell")
    page.touchscreen.tap(x - 20, y - 20)
    expect(page.locator("#cell")).not_to_have_text(cell)


def test_without_scripts_the_forms_are_answered(opened) -> None:
    page = opened("/", java_script_enabled=False)
    assert "Without JavaScript" in page.text_content("noscript")
    page.fill("#cost", "x @ A @ x")
    page.fill("#wrt", "x")
    page.click("text=Derive >> nth=-1")
    assert page.locator("#answer .block").count() == 1
