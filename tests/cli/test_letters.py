"""What is printed where the terminal has few letters."""

import contextlib
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


ASKED = "model.py:net --data data.npz --loss mse"


@pytest.mark.some(of=3)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize(
    "line",
    [
        f"plan {ASKED}",
        f"hessian {ASKED} --out h.npz",
        f"quadratic {ASKED}",
        f"minimize {ASKED} --maxiter 2",
        f"layers {ASKED}",
        f"spectrum {ASKED}",
        f"graph {ASKED}",
        "derive sum((ŷ-θ*x)**2) --wrt θ --python",
        "derive ŷ+ --wrt ŷ",
        "plan ö.py:net --data data.npz --loss mse",
        "nonsense",
    ],
)
def test_every_command_at_any_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, encoding: str
) -> None:
    """What is printed, and what is said of an error: nothing ends for want of a letter."""
    written = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, terminal in written.items():
        monkeypatch.setattr(f"sys.{name}", io.TextIOWrapper(terminal, encoding))
    with contextlib.suppress(SystemExit):  # of a line that cannot be parsed
        assert main(line.split()) in (0, 1)
    printed = "".join(each.getvalue().decode(encoding) for each in written.values())
    assert printed and "?" not in printed and "Traceback" not in printed
