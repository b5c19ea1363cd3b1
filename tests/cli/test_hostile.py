"""Command lines that cannot work end with a message of a line or two, and a status; so do those
whose disk is full, whose terminal lacks letters, and whose reader is gone."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hesse.cli.app import main

OWN = r"""
import torch
from torch import nn

class Fails(nn.Linear):
    def forward(self, x):
        raise RuntimeError("\x1b[2J" + "many words\n" * 300)

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_parameter("a\x1b[31m", nn.Parameter(torch.ones(3, 2)))
    def forward(self, x):
        return x @ getattr(self, "a\x1b[31m")

class Unreadable:
    def __iter__(self):
        raise RuntimeError("\x1b[31m no")

fails, odd, unreadable = Fails(3, 2), Odd(), Unreadable()

def nothing(prediction, target):
    return (prediction * float("nan")).sum()

def text(prediction, target):
    return "text"

def full(prediction, target):
    raise OSError(28, "No space left on device")
"""
FILES = {
    "raises.py": "raise ValueError('\\x1b[31mred\\x07\\n' * 99)",
    "syntax.py": "def (:",
    "null.py": "a = 1\0",
    "deep.py": "def f(): return f()\nf()",
    "memory.py": "raise MemoryError",
    "junk.npz": "junk",
    "junk.safetensors": "junk",
    "zero.npz": "",
    "text.csv": "a,b\n1,x\x1b[31m\n",
    "text.pt": "junk",
    "own.py": OWN,
}
X, Y = np.arange(18.0).reshape(6, 3) / 18, np.ones((6, 2))
ARRAYS: dict[str, dict[str, Any]] = {
    "whole.npz": {"X": X, "y": np.ones((6, 2), dtype=int)},
    "long.npz": {"X": X.astype(np.longdouble), "y": Y},
    "whole-inputs.npz": {"X": np.ones((6, 3), dtype=int), "y": Y},
    "complex.npz": {"X": X.astype(complex), "y": Y},
    "unsigned.npz": {"X": X, "y": np.full((6, 2), 2**64 - 1, dtype=np.uint64)},
    "nan.npz": {"X": X * np.nan, "y": Y},
    "empty.npz": {"X": X[:0], "y": Y[:0]},
    "number.npz": {"X": np.float64(1), "y": np.float64(1)},
    "wide.npz": {"X": np.ones((6, 5)), "y": Y},
    "short.npz": {"X": X, "y": Y[:5]},
    "names.npz": {"a": X, "b": Y},
    "time.npz": {"X": np.zeros((6, 3), dtype="M8[s]"), "y": Y},
    "record.npz": {"X": np.zeros(6, dtype=[("a", float)]), "y": Y},
}
RADII = ["abc", "nan", "-1", "inf", ""]


@pytest.fixture
def hostile(folder: Path) -> Path:
    """The folder of a user, and in it what should not be."""
    for name, content in FILES.items():
        (folder / name).write_text(content)
    for name, arrays in ARRAYS.items():
        np.savez(folder / name, **arrays)
    (folder / "cut.npz").write_bytes((folder / "data.npz").read_bytes()[:300])
    for name in ("folder.npz", "folder.py", "folder.safetensors"):
        (folder / name).mkdir()
    (folder / "read-only.safetensors").touch(mode=0o444)
    os.mkfifo(folder / "pipe.safetensors")
    tensors = {"0.weight": torch.zeros(4, 3)}
    save_file(tensors, folder / "part.safetensors")
    for radius in RADII:
        save_file(tensors, folder / f"{radius}.safetensors", metadata={"radius": radius})
    return folder


def on(model: str = "model.py:net", data: str = "data.npz", loss: str = "mse") -> list[str]:
    return [model, "--data", data, "--loss", loss]


def named(length: int, suffix: str) -> str:
    return "n" * (length - len(suffix)) + suffix


DATA = [
    "whole-inputs.npz",
    "complex.npz",
    "unsigned.npz",
    "nan.npz",
    "empty.npz",
    "number.npz",
    "wide.npz",
    "short.npz",
    "names.npz",
    "time.npz",
    "record.npz",
    "junk.npz",
    "junk.safetensors",
    "zero.npz",
    "cut.npz",
    "folder.npz",
    "no.npz",
    "no/no.npz",
    *("text.csv", "text.pt", "none.pt", "data.txt"),
    ".npz",
    "/dev/null",
    "model.py:number",
    "model.py:once",
    "model.py:fails",
    "own.py:unreadable",
    "pipe.safetensors",
]
MODELS = [
    "model.py",
    "model.py:nett",
    "model.py:number",
    "model.py:needs",
    "raises.py:x",
    "syntax.py:x",
    "null.py:x",
    "deep.py:x",
    "memory.py:x",
    "folder.py:x",
    "no.py:x",
    "no/x.py:x",
    "own.py:fails",
    "a\x1b[31m.py:x",
    "\ud800.py:x",
]
LOSSES = [
    "msee",
    "model.py:cubic",
    "model.py:number",
    "model.py:net",
    "own.py:nothing",
    "own.py:text",
    "own.py:full",
]
OPTIONS = {
    "--memory": ["9" * 400, "nan", "1e3", "-1", "99999999999TB", "", "B"],
    "--penalty": ["nan", "-1", "abc", "1e400"],
    "--dtype": ["int8", ""],
    "--params": ["7.*", ""],
}
WRITES = {
    "hessian --out": [
        *("/proc/h.safetensors", "no/h.safetensors", "h.pt", "", ".", "folder.safetensors"),
        *("read-only.safetensors", "pipe.safetensors", "model.py/h.safetensors", "/dev/full"),
        named(256, ".safetensors"),
    ],
    "hessian --figure": ["/proc/h.png", "h.gif", ".png", "no/h.png", named(256, ".png")],
    "quadratic --figure": ["/proc/q.svg", "q"],
    "minimize --out": ["/proc/p.safetensors", "p.pt", named(256, ".safetensors")],
    "minimize --start": [
        *(f"{radius}.safetensors" for radius in RADII),
        *("part.safetensors", "junk.safetensors", "folder.safetensors", "no.safetensors"),
        *("pipe.safetensors", "/dev/null", "", "n" * 300),
    ],
    "minimize --radius": ["nan", "0", "abc", "-1"],
    "minimize --tolerance": ["nan", "-1"],
    "minimize --maxiter": ["-1", "x"],
    "minimize --method": ["newton", ""],
    "quadratic --tolerance": ["nan", "0", "1e400"],
}
DERIVE = [
    *(["sum(x"], ["sum(x"], ["", "--wrt", "x"], ["\0", "--wrt", "x"], ["a\x1b[31mb", "--wrt", "x"]),
    *(["sum(\ud800)", "--wrt", "x"], ["(" * 3000 + "x" + ")" * 3000, "--wrt", "x"]),
    *([], ["x @ x", "--network", "2-3-1"], ["model.py"], ["model.py:net"], ["--network", "2"]),
    *(["--network", "9" * 5000 + "-1"], ["--network", "2-1", "--wrt", "zz"]),
    *(["--network", "2-1", "--activation", "nope"], ["--network", "2-1", "--loss", "nope"]),
    *(["x @ x", "--wrt", "x", *more] for more in (["--shapes", "x["], ["--given", "y =="])),
    *(["x @ x", "--wrt", "x", "--block", block] for block in ("x", "x,z", ",")),
    *(
        ["x @ x", "--wrt", "x", "--html", path]
        for path in ("/proc/x.html", "x.txt", named(256, ".html"), "no/x.html")
    ),
]
LINES = [
    *(["plan", *on(data=data)] for data in DATA),
    *(["plan", *on(model)] for model in MODELS),
    *(["plan", *on(loss=loss)] for loss in LOSSES),
    *(["plan", *on(), option, value] for option, values in OPTIONS.items() for value in values),
    *(
        [command.split()[0], *on(), command.split()[1], v]
        for command in WRITES
        for v in WRITES[command]
    ),
    *(["derive", *line] for line in DERIVE),
    *(["demo", "--out", out] for out in ("/proc/x", "model.py", "n" * 300)),
    *(["nope"], ["plan"], ["plan", *on(), "--nope"], ["--version=3"], ["a\x1b[31m"]),
    *(["completion", "a\x1b[31m"], ["plan", *on(), "--penalty", "a\x1b[31m"]),
]


def test_there_are_many() -> None:
    assert len(LINES) >= 120


@pytest.mark.parametrize("line", LINES, ids=lambda line: ascii(" ".join(line))[:60])
def test_a_line_that_cannot_work_is_one_message(
    hostile: Path, capsys: pytest.CaptureFixture[str], line: list[str]
) -> None:
    before = sorted(os.listdir())
    try:
        status = main(line)
    except SystemExit as ended:  # of a line that cannot be parsed
        status = ended.code
    printed = capsys.readouterr()
    assert status in (1, 2) and "Traceback" not in printed.err and "\x1b" not in printed.err
    if status == 1:
        assert printed.out == "" and printed.err.startswith("hesse: ")
        lines = printed.err.rstrip("\n").split("\n")
        # An expression or a declaration is shown, with the place below it.
        assert len(lines) <= (3 if "cannot be read" in lines[0] else 2), lines
        assert all(len(text) < 1000 and text.isprintable() for text in lines), lines
    assert [name for name in sorted(os.listdir()) if "__pycache__" not in name] == before


@pytest.mark.parametrize("data", ["whole.npz", "long.npz"])
def test_numbers_of_other_kinds_are_taken(hostile: Path, data: str) -> None:
    assert main(["plan", *on(data=data)]) == 0


@pytest.mark.parametrize(
    ("command", "option", "suffix"),
    [
        ("hessian", "--out", ".safetensors"),
        ("hessian", "--figure", ".png"),
        ("minimize", "--out", ".safetensors"),
    ],
)
def test_the_longest_names_are_taken(folder: Path, command: str, option: str, suffix: str) -> None:
    path = named(255, suffix)
    assert main([command, *on(), option, path]) == 0 and Path(path).stat().st_size > 100


def test_names_of_the_users_cannot_steer_the_terminal(
    hostile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("plan", "hessian", "minimize"):
        assert main([command, *on("own.py:odd")]) == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err and "a\\x1b[31m" in printed.out


# ---------------------------------------------------------------- where it is written and printed

PAGE = ["derive", "x @ A @ x", "--wrt", "x"]


@pytest.mark.parametrize(
    "line",
    [
        [*PAGE, "--html", "x.html"],
        ["hessian", *on(), "--out", "h.safetensors"],
        ["hessian", *on(), "--figure", "h.png"],
        ["minimize", *on(), "--out", "p.safetensors"],
    ],
    ids=" ".join,
)
def test_a_file_that_may_not_grow(
    folder: Path, capsys: pytest.CaptureFixture[str], line: list[str]
) -> None:
    before, limits = sorted(os.listdir()), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        status = main(line)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert status == 1 and f": cannot write '{line[-1]}': " in error
    assert [name for name in sorted(os.listdir()) if name != "__pycache__"] == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no such device")
@pytest.mark.parametrize("line", [PAGE, ["--help"]])
def test_output_that_cannot_be_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: list[str]
) -> None:
    monkeypatch.setattr("sys.stdout", open("/dev/full", "w"))  # noqa: SIM115 (main ends it)
    assert main(line) == 1
    assert capsys.readouterr().err == "hesse: cannot print: No space left on device\n"
    sys.stdout.close()


def test_output_that_is_closed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert main(PAGE) == 1
    assert capsys.readouterr().err.startswith("hesse: standard output is closed")
    monkeypatch.setattr("sys.stderr", None)
    assert main(PAGE) == 1


def test_a_reader_that_is_gone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, "-m", "hesse", *PAGE], stdout=writing, stderr=subprocess.PIPE, timeout=120
    )
    os.close(writing)
    assert ran.returncode in (1, 141) and ran.stderr == b""
