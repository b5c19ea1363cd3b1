"""Random and hostile costs for `hesse.derive`, each in a process with a time limit.

    python -m bench.fuzz_derive --count 2000 --seed 0

Every outcome is a derivation that can be printed, or a `HesseError`, within the limit. Whatever is
neither is printed with the seed that makes it, and the exit code is 1; ``--only SEED`` tries one.
"""

import argparse
import collections
import multiprocessing
import random
import re
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

LIMIT = 10.0  # seconds for one text, a process that starts left out

NAMES = ["x", "y", "w", "W", "A", "X", "b", "lam", "ŷ", "σ", "n"]
CALLS = [
    "tanh",
    "exp",
    "log",
    "sqrt",
    "relu",
    "sigmoid",
    "sin",
    "abs",
    "softplus",
    "f",
    "g2",
    "tan",
    "cosh",
    "log1p",
    "arcsin",
    "lgamma",
    "digamma",
    "normcdf",
    "huber",
    "step",
]
WHOLE = [
    "sum",
    "mean",
    "norm2",
    "softmax",
    "logsumexp",
    "trace",
    "diag",
    "inv",
    "det",
    "logdet",
    "var",
    "std",
    "norm",
]
NUMBERS = ["0", "1", "2", "-1", "1/2", "0.1", "1e3", "1e-300", "1e308", "0e999999999", "10**400"]
HOSTILE = [
    "", " ", "(", ")", "sum(", "x..T", "x[0]", "x if y else z", "lambda: x", "__import__('os')",
    "sum(x))", "sum(x;y)", "sum(x)#", "sum('a')", "sum(x, axis=9)", "sum(x, axis=None)", "x@@y",
    "sum(x)\x1b[31m", "sum(x\u202e)", "sum(\ud800x)", "sum(x\x00)", "sum(\n\nx)", "0*sum(x)",
    "sum(x)**0", "sum(0*x)/sum(0*x)", "eye(n)", "sum(eye(3)@x)", "True", "None", "1j*sum(x)",
    "x" * 5000, "sum(" + "x+" * 3000 + "x)", "(" * 400 + "x" + ")" * 400, "-" * 300 + "sum(x)",
    "max(0, 1 - x@y)", "max()", "where(x > 0, x, y)", "where(x, 1, 2)", "sum(clip(x, 0, 1))",
    "einsum('ij,jk->ik', A, W)", "einsum('i->" + "i" * 99 + "', x)", "einsum('', x)", "einsum(x)",
    "sum(x[:, None]*y[None, :])", "x[i] @ y[j]", "x[1:]", "x[None][None][None]", "x[:, :, i]",
    "||A@x - b||", "x' A x", "norm(x, 1)", "norm(A, 'fro')", "sum(outer(x, y))", "average(x, w)",
    "sum(x[..., None]) + x[()]", "maximum(*x)", "huber(delta=1)", "W @ x", "softmax(x)",
    "sum(" + "f(" * 150 + "x" + ")" * 150 + ")", "sum(x)" + ".T" * 120, "sum(é*x)", "sum(𝒙)",
]  # fmt: skip
LINKS = [
    "tanh({})", "f({})", "sqrt(1+{}**2)", "log(1+exp({}))", "(x**{})", "tanh(W@{})", "(x*{}+1)",
    "sin(2*{})", "f(x+{})", "1/(2+{})", "softmax({})", "({}+1)**2",
    "maximum({}, 1)", "where(x > 0, {}, x)", "huber({})", "clip({}, -1, 1)", "log1p({}**2)",
]  # fmt: skip
WRONG: list[Any] = [None, 5, 1.5, b"x", [], {}, object, [5], ["x", None], float("nan"), "", "__x"]


@dataclass
class Case:
    """The arguments of one call."""

    text: Any
    wrt: Any
    options: dict[str, Any] = field(default_factory=dict)


def case(seed: int) -> Case:
    """One call: mostly text that could be a cost, sometimes what nobody should pass."""
    draw = random.Random(seed)
    kind = draw.random()
    if kind < 0.12:
        text: Any = draw.choice(HOSTILE)
    elif kind < 0.2:
        text = _mangled(draw, f"sum({_tree(draw, 3)})")
    elif kind < 0.3:
        text = _repeated(draw)
    else:
        text = draw.choice(["sum({})", "mean({})", "norm2({})**2", "{}"]).format(_tree(draw, 4))
    # Mostly names that occur: others are refused before anything else is looked at.
    occurring = [name for name in NAMES if re.search(rf"\b{name}\b", text)]
    among = occurring if occurring and draw.random() < 0.85 else NAMES
    wrt: Any = draw.sample(among, min(len(among), draw.choice([1, 1, 1, 2, 3])))
    options: dict[str, Any] = {}
    if draw.random() < 0.3:
        options["shapes"] = " ".join(f"{name}{_shape(draw)}" for name in draw.sample(NAMES, 3))
    if draw.random() < 0.1:
        options["given"] = draw.choice(["sum(y) == 1", "b == 2", "y == 0e999999999", "y = 1", "=="])
    if draw.random() < 0.05:
        options["stagewise"] = draw.choice([True, False])
    if draw.random() < 0.08:
        place = draw.choice(["text", "wrt", "shapes", "given"])
        wrong = draw.choice(WRONG)
        if place == "text":
            text = wrong
        elif place == "wrt":
            wrt = wrong
        else:
            options[place] = wrong
    return Case(text, wrt, options)


def _tree(draw: random.Random, depth: int) -> str:
    if depth == 0 or draw.random() < 0.15:
        return draw.choice(NAMES) if draw.random() < 0.85 else draw.choice(NUMBERS)
    a = _tree(draw, depth - 1)
    kind = draw.random()
    if kind < 0.3:
        return f"{draw.choice(CALLS)}({a})"
    if kind < 0.4:
        axis = draw.choice(["", "", ", axis=0", ", axis=-1"])
        return f"{draw.choice(WHOLE)}({a}{axis})"
    if kind < 0.45:
        return f"({a}).T"
    if kind < 0.52:
        return f"({a})**{draw.choice(['2', '3', '-1', '0.5', '(1/3)', 'x', '100', '1e300'])}"
    b = _tree(draw, depth - 1)
    return f"({a} {draw.choice('++-*/@@')} {b})"


def _repeated(draw: random.Random) -> str:
    """Deep chains, long sums and long products."""
    n = draw.choice([5, 12, 30, 50, 80])
    f = draw.choice(LINKS)
    text = "x"
    if draw.random() < 0.7:
        for _ in range(n):
            text = f.format(text)
        return f"sum({text})"
    join = draw.choice("+*")
    return f"sum({join.join(f.format(draw.choice(NAMES)) for _ in range(n))})"


def _mangled(draw: random.Random, text: str) -> str:
    signs = list(text)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(signs))
        signs[place] = draw.choice(
            ["", "(", ")", "@", "*", "\u202e", "\x1b", "é", " ", "0", signs[place] * 2]
        )
    return "".join(signs)


def _shape(draw: random.Random) -> str:
    sizes = ["n", "d", "1", "2", "3", "100000000", "0", "-1", "", "9" * 30]
    return f"[{','.join(draw.choice(sizes) for _ in range(draw.choice([0, 1, 1, 2, 2, 3, 30])))}]"


def outcome(call: Case) -> str:
    """What became of a call, in a word; ``raw …`` for what should not be."""
    import hesse

    builtins = (ValueError, TypeError, KeyError, MemoryError)
    try:
        derivation = hesse.derive(call.text, call.wrt, **call.options)
        name = derivation.parameters[0]
        compile(derivation.block(name, name).python(), "<block>", "exec")
        return "derived" if derivation.text() else "raw: empty text"
    except hesse.HesseError as error:
        fits = isinstance(error, builtins) and str(error).replace("\n", "").isprintable()
        return type(error).__name__ if fits else f"raw: {error!r}"
    except BaseException as error:
        return f"raw: {type(error).__name__}: {str(error)[:200]!r}"


def _worker(pipe: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    outcome(Case("sum(x)", "x"))
    pipe.send("ready")
    while True:
        pipe.send(outcome(case(pipe.recv())))


class Worker:
    """A process that tries calls one after the other, and is replaced when one does not end."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """A fresh process, ready to derive."""
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_worker, args=(other,), daemon=True)
        self.process.start()
        self.pipe.recv()

    def outcome(self, seed: int, limit: float = LIMIT) -> str:
        """What became of a call."""
        self.pipe.send(seed)
        if not self.pipe.poll(limit):
            self.stop()
            self.start()
            return "raw: does not end"
        try:
            return self.pipe.recv()
        except EOFError:
            self.start()
            return "raw: the process died"

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


def main() -> None:
    """Try many, and say how many became what."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the first; each next is one more")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for each")
    parser.add_argument("--only", type=int, help="one seed, in this process, with its arguments")
    parser.add_argument("--here", action="store_true", help="in this process, without a limit")
    options = parser.parse_args()
    if options.only is not None:
        call = case(options.only)
        print(call)
        print(outcome(call))
        return
    worker = None if options.here else Worker()
    counts, slowest = collections.Counter[str](), (0.0, -1)
    for seed in range(options.seed, options.seed + options.count):
        start = time.monotonic()
        result = worker.outcome(seed, options.limit) if worker else outcome(case(seed))
        seconds = time.monotonic() - start
        slowest = max(slowest, (seconds, seed))
        counts[result.split(":")[0]] += 1
        if result.startswith("raw"):
            print(seed, result, repr(case(seed))[:300], flush=True)
    if worker:
        worker.stop()
    print(dict(counts), f"slowest {slowest[0]:.1f} s, seed {slowest[1]}")
    sys.exit(1 if counts["raw"] else 0)


if __name__ == "__main__":
    main()
