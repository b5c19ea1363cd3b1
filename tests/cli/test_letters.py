"""What is printed where the terminal has few letters."""

import io
from pathlib import Path

import pytest

import hesse
from hesse.cli.app import main
from hesse.cli.letters import spelled

PAGE = ["derive", "1/2*sum((y - X @ w)**2)", "--wrt", "w"]


def test_every_letter_that_hesse_writes_has_another() -> None:
    sources = Path(hesse.__file__).parent.rglob("*.py")
    written = {letter for path in sources for letter in path.read_text() if letter.isprintable()}
    assert [letter for letter in sorted(written - set("?")) if "?" in spelled(letter)] == []
    assert spelled("".join(written)).isascii()


def test_letters_that_differ_stay_apart() -> None:
    letters = "yŷỹȳẏÿθΘ²₂ΣσδΔ"
    assert len({spelled(letter) for letter in letters}) == len(letters)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_terminal_that_lacks_letters(
    monkeypatch: pytest.MonkeyPatch, encoding: str, errors: str
) -> None:
    terminal = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(terminal, encoding, errors))
    assert main(PAGE) == 0
    printed = terminal.getvalue().decode(encoding)
    held = "∂²J/∂w∂w   symmetric".encode(encoding, "ignore").decode(encoding)
    assert ("∂²J/∂w∂w" in printed) is (encoding == "utf-8")
    assert encoding == "utf-8" or f"d{'²' if '²' in held else '^2'}J/dwdw" in printed
    assert "?" not in printed


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_borders_are_of_its_letters(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    terminal = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(terminal, encoding))
    assert main(["plan", "--help"]) == 0
    printed = terminal.getvalue().decode(encoding)
    assert "+- Parameters -" in printed and "?" not in printed
