"""Who is watching: bars at a terminal and in notebooks, and silence elsewhere."""

import subprocess
import sys
import types

import pytest

from hesse.process import progress
from hesse.process.progress import Progress, StatusLine, announced

KERNEL = """
import sys, types
shell = types.SimpleNamespace(config={"IPKernelApp": {}}, kernel=None)
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
"""
WORK = """
from hesse.process import progress
progress._DELAY = 0.0
with progress.Progress("work", 2) as bar:
    bar.advance(1)
with progress.StatusLine() as line:
    print(line.due)
"""


def run(script: str) -> tuple[str, str]:
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, ran.stderr


def test_a_script_is_quiet() -> None:
    assert run(WORK) == ("False\n", "")


def test_a_notebook_without_widgets_has_a_bar_of_text_and_no_warning() -> None:
    said, shown = run(KERNEL + WORK)
    assert said == "True\n" and "work   0%" in shown
    assert "IProgress" not in shown and "Warning" not in shown


def test_a_notebook_with_widgets_has_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, object]] = []

    class Widget:
        def __init__(self, **options: object) -> None:
            made.append(options)

        def update(self, steps: float) -> None: ...
        def set_description_str(self, text: str) -> None: ...
        def close(self) -> None:
            made.append({"closed": True})

    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    kernel = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", kernel)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "tqdm.notebook", types.SimpleNamespace(tqdm=Widget))  # type: ignore[arg-type]
    monkeypatch.setattr(progress, "find_spec", lambda name: object())
    with Progress("work", 2) as bar:
        bar.advance(1)
    with announced("long work", 60.0):
        pass
    assert [options.get("desc") for options in made] == ["work", None, None, None]
    assert made[1] == made[3] == {"closed": True}


def test_who_decides_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("work", 2, show=True) as bar:
        bar.advance(1)
    assert "work   0%" in capsys.readouterr().err
    with StatusLine(show=False) as line:
        assert not line.due
