"""Nothing of PyTorch's is heard while hesse works, of the user's own what they would hear anyway;
and all is put back."""

import json
import logging
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from hesse.errors import in_a_line
from hesse.process.quiet import quiet
from loud import LOUD

TABLE = Path(__file__).with_name("loud.py")


def test_the_streams_stay_empty_and_notes_are_sentences(tmp_path: Path) -> None:
    """Of what is asked once, for all of them."""
    command = [sys.executable, str(TABLE), str(tmp_path / "notes.json")]
    ended = subprocess.run(command, capture_output=True, timeout=600)
    assert (ended.returncode, ended.stdout.decode(), ended.stderr.decode()) == (0, "", "")
    notes = json.loads((tmp_path / "notes.json").read_text())
    assert len(notes) > len(LOUD)
    for note in notes:
        assert (
            "INTERNAL ASSERT" not in note
            and "report a bug" not in note
            and "\n" not in note
            and "unhinted" not in note
        )
        assert not re.search(r"\S/\S*\.(cpp|h|cc|cu|py)\b", note), note


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            RuntimeError(
                "InferenceMode::is_enabled() && self.is_inference() INTERNAL ASSERT FAILED at"
                ' "/w/aten/V.cpp":66, please report a bug to PyTorch. Expected this method to be'
                " reached in inference mode only. You should NOT call it directly."
            ),
            "RuntimeError: Expected this method to be reached in inference mode only",
        ),
        (
            RuntimeError(
                'level <= current INTERNAL ASSERT FAILED at "/w/A.cpp":46, please report a bug to'
                " PyTorch. escaped?"
            ),
            "RuntimeError: escaped?",
        ),
        (
            RuntimeError(
                'x INTERNAL ASSERT FAILED at "../A.cpp":46, please report a bug to PyTorch. '
            ),
            "RuntimeError: an internal check of PyTorch failed",
        ),
        (
            ValueError("sizes 3.5 and 4 differ. Check them.\nMore (a/b.py:3)"),
            "ValueError: sizes 3.5 and 4 differ",
        ),
        (UserWarning("a copy (Triggered internally at /w/C.cpp:11.)"), "UserWarning: a copy"),
        (KeyError("add_6"), "KeyError: 'add_6'"),
        (ValueError(" "), "ValueError"),
    ],
)
def test_an_error_in_a_line(error: Exception, line: str) -> None:
    assert in_a_line(error) == line


def test_an_error_in_a_line_is_not_cut_within_a_word() -> None:
    line = in_a_line(ValueError("word " * 100))
    assert len(line) < 180 and line.endswith("word ...")


class Warns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        warnings.warn("mine", stacklevel=1)
        return self.layer(x).tanh()


def warns() -> hesse.Cost:
    return hesse.Cost(Warns(), "mse", (torch.randn(4, 3), torch.randn(4, 2)))


ONCE = """
import warnings, torch, hesse

class Warns(torch.nn.Linear):
    def forward(self, x):
        warnings.warn("mine", stacklevel=1)
        return super().forward(x).tanh()

with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("default")
    cost = hesse.Cost(Warns(3, 2), "mse", (torch.randn(4, 3), torch.randn(4, 2)))
    for question in (hesse.plan, hesse.hessian, hesse.diagonal, hesse.operator):
        question(cost)
print([str(each.message) for each in heard])
"""


def test_what_the_users_forward_warns_of_is_heard_once() -> None:
    # In a process without beartype: it sets filters, and Python forgets what was heard.
    ended = subprocess.run(
        [sys.executable, "-c", ONCE], capture_output=True, text=True, timeout=300
    )
    assert ended.stdout.strip() == "['mine']", ended.stderr


@pytest.mark.parametrize("name", ["divergence", "Bilinear", "Recurrent"])
def test_where_warnings_are_errors_nothing_is_lost(name: str) -> None:
    expected = hesse.plan(LOUD[name]())
    cost = LOUD[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert str(hesse.plan(cost)) == str(expected) and expected.captured
        assert hesse.operator(cost).methods == ("straight line",)
        hesse.hessian(cost)
        hesse.diagonal(cost)


def says_slow() -> bool:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        torch.func.vmap(lambda x: F.kl_div(x, x, reduction="sum"))(torch.zeros(2, 1))
    return any("batching rule" in str(each.message) for each in heard)


def test_all_is_put_back() -> None:
    import torch.export._trace

    names = ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")
    before = (
        list(warnings.filters),
        [list(logging.getLogger(name).filters) for name in names],
        says_slow(),
    )
    with quiet(printed=True), quiet():
        assert not says_slow() and "print" in vars(torch.export._trace)
    hesse.hessian(warns())
    with pytest.raises(RuntimeError), quiet():
        raise RuntimeError
    assert before == (
        list(warnings.filters),
        [list(logging.getLogger(name).filters) for name in names],
        says_slow(),
    )
    assert "print" not in vars(torch.export._trace)
    assert before[2]


def test_other_threads_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    logged, logger = list[str](), logging.getLogger("torch.export")
    listener = logging.Handler()
    monkeypatch.setattr(listener, "emit", lambda record: logged.append(record.getMessage()))
    monkeypatch.setattr(logger, "handlers", [*logger.handlers, listener])

    def speak(text: str) -> None:
        warnings.warn(text, stacklevel=1)
        logger.warning(text)

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with quiet():
            speak("unheard")
            thread = threading.Thread(target=speak, args=("heard",))
            thread.start()
            thread.join()
        speak("after")
    assert [str(each.message) for each in heard] == ["heard", "after"] == logged
