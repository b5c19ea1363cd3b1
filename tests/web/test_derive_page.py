"""The page for derivations: what is typed, how it is read, what comes back, and who may ask."""

import html as escaping
import re
import threading
import time
from urllib.parse import parse_qs

import numpy as np
import pytest

import hesse
from hesse.web import answers
from hesse.web.examples import EXAMPLES
from hesse.web.question import Question, network_in_words
from hesse.web.workers import TooMuch, Workers
from web.answering import client

BROWSER = client()
LEAST_SQUARES = {"cost": "1/2*sum((y - X @ w)**2)", "wrt": "w"}
INJECTIONS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</textarea><script>alert(1)</script>",
    "{{ 7*7 }}",
    "x\x00\x1b[31m\u202e",
    "javascript:alert(1)",
]


def test_what_a_network_is_read_as() -> None:
    found = answers.reading({"network": "2-3-1, tanh, no biases", "wrt": "W2"})
    assert [(a["name"], a["shape"], a["parameter"]) for a in found["arrays"]] == [
        ("W1", "[3,2]", False),
        ("W2", "[1,3]", True),
        ("x", "[2]", False),
        ("y", "[1]", False),
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.title)
def test_every_example_is_read(example) -> None:
    found = answers.reading(vars(example.question))
    assert example.question.network or [a for a in found["arrays"] if a["parameter"]]


def test_a_link_opens_on_the_answer() -> None:
    page = BROWSER.get("/", params=LEAST_SQUARES)
    assert page.status_code == 200
    assert "1/2*sum((y - X @ w)**2)</textarea>" in page.text
    assert hesse.derive(LEAST_SQUARES["cost"], "w").latex().split("\n")[5] in (
        escaping.unescape(page.text)
    )
    link = escaping.unescape(re.search(r'id="link" href="/\?([^"]*)"', page.text)[1])  # pyright: ignore[reportOptionalSubscript]
    assert {name: text for name, (text,) in parse_qs(link).items()} == LEAST_SQUARES


def test_the_code_that_is_copied_runs() -> None:
    codes = dict(answers.derivation(LEAST_SQUARES)["codes"])
    made = {}
    exec(codes["NumPy"], made)
    assert set(codes) == {"NumPy", "PyTorch", "JAX"}
    (function,) = (made[name] for name in made if name.startswith("hessian_"))
    assert function(X=np.array([[1.0], [2.0]])).tolist() == [[5.0]]


def test_what_could_be_read_otherwise_is_offered_and_taken() -> None:
    said = {"cost": "1/2*sum((y - X @ w)**2) + lam/2*w.T @ w", "wrt": "w"}
    lam = next(a for a in answers.reading(said)["arrays"] if a["name"] == "lam")
    assert (lam["kind"], lam["shape"], lam["otherwise"]) == ("a number", "[]", "[d]")
    again = answers.reading({**said, "shapes": "lam[d]"})
    lam = next(a for a in again["arrays"] if a["name"] == "lam")
    assert (lam["kind"], lam["otherwise"]) == ("a vector", None)


def test_a_mistake_is_shown_with_its_place() -> None:
    reply = BROWSER.get("/reading", params={"cost": "sum((y - X @ w)**2", "wrt": "w"})
    assert reply.status_code == 422
    _text, line, caret = reply.json()["error"].split("\n")
    assert line[caret.index("^")] == "("
    assert "alert" in BROWSER.get("/answer", params={"cost": "sum(", "wrt": "w"}).text


@pytest.mark.parametrize("field", ["cost", "wrt", "shapes", "given", "network"])
@pytest.mark.parametrize("text", INJECTIONS)
def test_nothing_that_is_typed_becomes_a_part_of_the_page(field, text) -> None:
    for path in ("/", "/answer", "/file"):
        page = BROWSER.get(path, params={**LEAST_SQUARES, field: text}).text
        assert (
            "<script>alert" not in page
            and "<img src=x" not in page
            and "</textarea><" not in (page.replace("</textarea>\n<", ""))
        )
        assert "49" not in page or "{{" not in text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8765"}, 200),
        ({"host": "[::1]:8765"}, 200),
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": "[oops"}, 421),
        ({"host": "evil@127.0.0.1"}, 421),
        ({"host": "127.0.0.1/.evil.example"}, 421),
        ({"host": "127.0.0.1#.evil.example"}, 421),
        ({"host": ""}, 421),
        ({"origin": "http://127.0.0.1:8765"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "https://127.0.0.1:8765"}, 403),
        ({"origin": "http://[oops"}, 403),
        ({"origin": ""}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        (
            {
                "sec-fetch-site": "cross-site",
                "sec-fetch-mode": "navigate",
                "sec-fetch-dest": "iframe",
            },
            403,
        ),
        ({"content-length": "99999999"}, 413),
    ],
)
def test_who_may_ask(headers, status) -> None:
    assert BROWSER.get("/static/page.css", headers=headers).status_code == status


def test_what_a_page_may_load() -> None:
    page = BROWSER.get("/")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "default-src 'none'" in policy
    assert not re.search(r"<script(?! src=\"/static/)|\son\w+=|https?://", page.text)
    for path in ("/static/../server.py", "/static/%2e%2e/server.py", "/etc/passwd", "/nowhere"):
        assert BROWSER.get(path).status_code == 404


def test_fields_have_a_length() -> None:
    reply = BROWSER.get("/", params={"cost": "x" * 5000, "wrt": "x"})
    assert reply.status_code == 422 and "4000 characters" in reply.text


def test_a_file_to_keep_is_the_page_of_a_derivation() -> None:
    reply = BROWSER.get("/file", params=LEAST_SQUARES)
    assert reply.headers["content-disposition"] == 'attachment; filename="derivation.html"'
    assert reply.text.lstrip().startswith("<!DOCTYPE html>")


def test_a_network_in_words() -> None:
    for text in ("2-3-1, sigmoid, half_sse", "4-2, cross_entropy, tanh, no biases", "d-h-m, f"):
        network = network_in_words(text)
        assert str(network_in_words(str(network))) == str(network)
    with pytest.raises(hesse.HesseError, match="sigmiod"):
        network_in_words("2-3-1, sigmiod")
    assert Question.of({"network": "2-1, tanh"}).derivation().parameters == ("W1", "b1")


# In processes of their own.


def _forever(said) -> dict:
    while True:
        pass


def _greedy(said) -> dict:
    return {"bytes": len(bytearray(8 << 30))}


def _ends(said) -> dict:
    raise SystemExit(3)


def test_processes_answer_within_limits() -> None:
    workers = Workers(seconds=30.0, memory=1 << 30)
    assert "w" in workers.answer(answers.reading, LEAST_SQUARES)["wrt"]
    assert "1.07 GB" in workers.answer(_greedy, {})["error"]
    with pytest.raises(TooMuch, match="the process that answers ended"):
        workers.answer(_ends, {})
    start = time.perf_counter()
    with pytest.raises(TooMuch, match=r"longer than 0\.3 s"):
        Workers(seconds=0.3).answer(_forever, {})
    assert time.perf_counter() - start < 20
    # More at once than there are cores: they wait for one another.
    found: list[str] = []

    def ask() -> None:
        found.append(workers.answer(answers.reading, LEAST_SQUARES)["wrt"])

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["w"] * 50
    with pytest.raises(TooMuch, match="others are being answered"):
        Workers(patience=0.0, at_once=0).answer(answers.reading, LEAST_SQUARES)
    # What is being answered ends with the server.
    threading.Timer(1.0, workers.close).start()
    with pytest.raises(TooMuch, match="the process that answers ended"):
        workers.answer(_forever, {})
