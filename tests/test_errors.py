"""Every error says which argument, what it got, what it expected and what to do; here each text is
read.

Rows of the table: a call that must fail, the built-in that the error must also be, and a pattern of
its text.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import hesse
import hesse.errors
from cases import dense
from hesse.errors import nearest, readable_bytes
from hesse.parameters import choose
from hesse.penalty import require_penalty

X, Y = torch.linspace(-1, 1, 12).reshape(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])


def model() -> nn.Sequential:
    return dense(2, 3, 2)


def cost(
    net: Any = None, loss: Any = "cross_entropy", data: Any = (X, Y), **options: Any
) -> hesse.Cost:
    return hesse.Cost(net or model(), loss, data, **options)


def with_value(tensor: Tensor, entry: Any, value: float) -> Tensor:
    changed = tensor.clone()
    changed[entry] = value
    return changed


def broken(value: float) -> nn.Sequential:
    net: Any = model()
    with torch.no_grad():
        net[0].weight[0] = value
    return net


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.phase, self.head = nn.Parameter(torch.ones(2, dtype=torch.complex64)), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x * self.phase).real)


class Sampling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + torch.randn_like(x))


class Reads(nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 2)
        self.reading = (line for line in ())


class Drifting:
    """A loader whose batches are others in every pass."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield torch.as_tensor(self.random.normal(size=(6, 2)), dtype=torch.float32), Y


class OnlyOnce:
    """Says that it can be read again, and is empty the second time."""

    def __init__(self) -> None:
        self.batches = iter([(X, Y)])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.batches


def coupling(prediction: Tensor, target: Tensor) -> Tensor:
    return prediction.square().sum().sqrt()


def two_batches(y: Tensor = Y) -> list[tuple[Tensor, Tensor]]:
    return [(X[:3], y[:3]), (X[3:], y[3:])]


def scalar(params: dict[str, Tensor]) -> Tensor:
    return params["u"].square().sum()


U = {"u": torch.ones(2)}
ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    # model
    "a model that is none": (
        lambda: cost(net="net"),
        TypeError,
        r"model: expected an nn\.Module or a function f\(params, x\), got str",
    ),
    "active dropout": (
        lambda: cost(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.25))),
        ValueError,
        r"model: dropout is active in '1' \(p = 0\.25, training mode\).*model\.eval\(\)",
    ),
    "active dropout in attention": (
        lambda: cost(nn.TransformerEncoderLayer(2, 1, 3, dropout=0.1, batch_first=True)),
        ValueError,
        r"model: dropout is active in 'self_attn' \(p = 0\.1, .*set the rate to 0",
    ),
    "active dropout in a recurrent layer": (
        lambda: cost(nn.LSTM(2, 2, 2, dropout=0.5)),
        ValueError,
        r"model: dropout is active in 'the model' \(p = 0\.5",
    ),
    "a random model": (
        lambda: cost(Sampling()),
        ValueError,
        r"model: two evaluations gave .* and .*; the cost is random.*model\.eval\(\)",
    ),
    "a model that cannot be copied": (
        lambda: cost(Reads()),
        TypeError,
        r"model: this Reads cannot be copied \(.*\).*Cost\.from_function",
    ),
    "batch norm over several batches": (
        lambda: cost(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), data=two_batches()),
        ValueError,
        (
            r"model: the prediction for one sample depends on the others.*over 2"
            r" batches.*model\.eval\(\), or pass the data as one"
        ),
    ),
    # loss
    "unknown loss": (
        lambda: cost(loss="cross-entropi"),
        ValueError,
        r"loss: no loss is named 'cross-entropi'.*nearest.*'cross_entropy'",
    ),
    "a loss that is none": (
        lambda: cost(loss=3),
        TypeError,
        r"loss: expected a name \('half_sse', 'mse', .*torch\.nn\.functional's losses\).*got int",
    ),
    "a loss without reduction": (
        lambda: cost(loss=nn.CrossEntropyLoss(reduction="none")),
        ValueError,
        (
            r"loss: cross_entropy with reduction='none' gives one number per sample.*use"
            r" reduction='mean' or 'sum'"
        ),
    ),
    "a loss that is not a scalar": (
        lambda: cost(loss=lambda p, y: F.cross_entropy(p, y, reduction="none")),
        ValueError,
        (
            r"loss on batch 0: expected one number, got a tensor of shape \(6,\); reduce it with"
            r" \.mean\(\) or \.sum\(\)"
        ),
    ),
    "a loss that is no tensor": (
        lambda: cost(loss=lambda p, y: float(p.sum())),
        TypeError,
        r"loss on batch 0: expected a tensor with one number, got float; compute it with torch",
    ),
    "a loss that is not finite": (
        lambda: cost(
            loss=lambda p, y: (p.square().sum() * (-1 if y[0] else 1)).log().sum(),
            data=[(X, Y), (X[1:], Y[1:])],
        ),
        ValueError,
        r"loss on batch 1: the value is nan; check the parameters and the data of that batch",
    ),
    "a loss that couples, in batches": (
        lambda: cost(loss=coupling, data=two_batches()),
        ValueError,
        (
            r"loss: coupling is neither a sum nor a mean over samples.*over 2 batches.*pass the"
            r" data as one batch \(X, y\)"
        ),
    ),
    "shapes that would be broadcast": (
        lambda: cost(dense(2, 3, 1), "mse", (X, Y.float())),
        ValueError,
        (
            r"loss: mse_loss got predictions of shape \(6, 1\) and targets of shape"
            r" \(6,\).*y\.reshape\(-1, 1\)"
        ),
    ),
    "nothing to divide by": (
        lambda: cost(
            loss=nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1.0])), data=(X, torch.zeros_like(Y))
        ),
        ValueError,
        r"loss.*(nothing to divide by|the value is nan)",
    ),
    "every target ignored": (
        lambda: cost(loss=nn.CrossEntropyLoss(ignore_index=0), data=(X, torch.zeros_like(Y))),
        ValueError,
        r"loss: the mean has nothing to divide by: every target is ignored or has class weight 0",
    ),
    # data
    "empty data": (lambda: cost(data=(X[:0], Y[:0])), ValueError, r"data: the data set is empty"),
    "no batches": (lambda: cost(data=[]), ValueError, r"data: the data set is empty"),
    "a generator": (
        lambda: cost(data=(pair for pair in two_batches())),
        ValueError,
        r"data: this generator can be read only once.*pass a list of batches or a DataLoader",
    ),
    "batches that run out": (
        lambda: cost(data=OnlyOnce()),
        ValueError,
        (
            r"data: the loader gave other samples in its second pass \(it can be read only once, or"
            r" draws"
        ),
    ),
    "other batches each time": (
        lambda: cost(data=Drifting()),
        ValueError,
        (
            r"data: the loader gave other samples in its second pass.*turn the randomness off, or"
            r" pass list\(loader\)"
        ),
    ),
    "no pair": (
        lambda: cost(data=X),
        TypeError,
        r"data: expected a pair \(X, y\) of tensors, arrays or tables, a Dataset, or a re-iterable"
        r".*got Tensor",
    ),
    "numbers in lists": (
        lambda: cost(data=(X.tolist(), Y.tolist())),
        TypeError,
        (
            r"data: expected tensors, arrays or tables \(X, y\), got .*; convert lists,"
            r" torch\.as_tensor\(X\)"
        ),
    ),
    "batches of text": (
        lambda: cost(data=[("a", "b")] * 3),
        TypeError,
        (
            r"data: batch 0 is a tuple of 2 \(str\); expected a pair \(inputs, targets\) of"
            r" tensors"
        ),
    ),
    "batches that are no pairs": (
        lambda: cost(data=DataLoader(TensorDataset(X), batch_size=3)),
        TypeError,
        r"data: batch 0 holds inputs only; expected a pair \(inputs, targets\) of tensors",
    ),
    "lengths that differ": (
        lambda: cost(data=[(X, Y), (X, Y[:5])] * 2),
        ValueError,
        (
            r"data: batch 1 has 6 inputs, and its targets have shape \(5,\); the first axis of"
            r" every tensor counts the samples"
        ),
    ),
    "inputs without axes": (
        lambda: cost(data=[(torch.tensor(1.0), Y)] * 3),
        ValueError,
        (
            r"data: an input is a tensor without axes; the first axis of every tensor counts the"
            r" samples"
        ),
    ),
    "inputs that are not finite": (
        lambda: cost(data=[(X, Y), (with_value(X, (2, 0), float("nan")), Y)] * 2),
        ValueError,
        r"data: batch 1 has 1 inputs that are not finite",
    ),
    "targets that are not finite": (
        lambda: cost(loss="mse", data=(X, with_value(X, 0, float("inf")))),
        ValueError,
        r"data: batch 0 has 2 targets that are not finite \(nan or inf\); remove those samples",
    ),
    # params
    "unknown name": (
        lambda: cost(params=["0.weight", "1.weight"]),
        KeyError,
        r"params: no parameter is named or matches '1\.weight'; the nearest: '[02]\.weight'",
    ),
    "an empty choice": (
        lambda: cost(params=lambda name: False),
        ValueError,
        r"params: the choice is empty; the parameters are '0\.weight', ",
    ),
    "nothing requires a gradient": (
        lambda: cost(model().requires_grad_(False)),
        ValueError,
        (
            r"params: no parameter of the model requires a gradient; name those to differentiate in"
            r" params="
        ),
    ),
    "tensors for a module": (
        lambda: cost(params=dict(model().named_parameters())),
        TypeError,
        r"params: for a module give names, glob patterns or a predicate",
    ),
    "parameters in place of names": (
        lambda: choose(model(), list(model().parameters())),
        TypeError,
        (
            r"params: expected names, glob patterns or a predicate of the name, got a Parameter"
            r" among them.*named_parameters\(\)"
        ),
    ),
    "no tensors for a function": (
        lambda: cost(lambda p, x: x),
        TypeError,
        (
            r"params: a plain function needs its tensors by name: .*params=\{name: Tensor\}\); got"
            r" NoneType"
        ),
    ),
    "complex parameters": (
        lambda: cost(Complex()),
        TypeError,
        (
            r"params: 'phase' is complex64; second derivatives are taken in real floating"
            r" parameters.*real and imaginary parts"
        ),
    ),
    "integer parameters": (
        lambda: hesse.Cost.from_function(scalar, {"u": torch.ones(2, dtype=torch.int64)}),
        TypeError,
        (
            r"params: 'u' is int64; second derivatives are taken in real floating parameters: leave"
            r" it out"
        ),
    ),
    "parameters that are not finite": (
        lambda: cost(broken(float("inf"))),
        ValueError,
        (
            r"params: '0\.weight' has 2 entries that are not finite \(nan or inf\); has training"
            r" diverged\?"
        ),
    ),
    "parameters on two devices": (
        lambda: hesse.Cost.from_function(
            scalar, {"u": torch.ones(2), "v": torch.ones(2, device="meta")}
        ),
        ValueError,
        r"params: the parameters lie on several devices \(cpu, meta\); move the model to one",
    ),
    # penalty
    "a negative penalty": (
        lambda: cost(penalty=-1.0),
        ValueError,
        r"penalty: expected a finite number >= 0, got -1\.0",
    ),
    "a penalty that is none": (
        lambda: require_penalty("l2", {}),
        TypeError,
        r"penalty: expected a number or a function of \{name: Tensor\}, got str",
    ),
    "a penalty that is not a scalar": (
        lambda: cost(penalty=lambda params: params["0.weight"]),
        ValueError,
        r"penalty\(params\): expected one number, got a tensor of shape \(3, 2\)",
    ),
    # from_function
    "an unknown reduction": (
        lambda: hesse.Cost.from_function(scalar, U, reduction="average"),
        ValueError,
        r"reduction: expected one of 'mean', 'sum', got 'average'",
    ),
    "a function that is not a scalar": (
        lambda: hesse.Cost.from_function(lambda p: p["u"], U),
        ValueError,
        r"f\(params\): expected one number, got a tensor of shape \(2,\)",
    ),
    "a function that is not finite": (
        lambda: hesse.Cost.from_function(lambda p: -p["u"].sum().log() / 0.0, U),
        ValueError,
        r"f\(params\): the value is -inf",
    ),
    "a random function": (
        lambda: hesse.Cost.from_function(lambda p: (p["u"] * torch.rand(2)).sum(), U),
        ValueError,
        r"f: two evaluations gave .*; the cost is random",
    ),
    "a random function of data": (
        lambda: hesse.Cost.from_function(
            lambda p, batch: (p["u"] * torch.rand(2)).sum(), U, (X, Y)
        ),
        ValueError,
        r"f: two evaluations gave .*; the cost is random",
    ),
    # at
    "other names": (
        lambda: cost().at({"0.weight": torch.ones(3, 2)}),
        KeyError,
        (
            r"the dictionary does not have this layout's names: missing \['0\.bias', '2\.weight',"
            r" '2\.bias'\], unknown none"
        ),
    ),
    "another length": (
        lambda: cost().at(torch.ones(5)),
        ValueError,
        r"a flat vector for this layout has 17 entries, got 5 \(shape \(5,\)\)",
    ),
    "another shape": (
        lambda: hesse.Cost.from_function(scalar, U).at({"u": torch.ones(3)}),
        ValueError,
        r"'u' has shape \(3,\); this layout expects \(2,\)",
    ),
    "values that are not finite": (
        lambda: cost().at(torch.full((17,), float("nan"))),
        ValueError,
        r"params: '0\.weight' has 6 entries that are not finite",
    ),
    # results
    "a Hessian that does not fit": (
        lambda: hesse.hessian(hesse.Cost.from_function(scalar, {"u": torch.ones(3_000_000)})),
        MemoryError,
        (
            r"P = 3000000 and takes 36 TB, and .*B are free; use"
            r" hesse\.operator\(cost\).*block_diagonal=True"
        ),
    ),
    "no memory": (
        lambda: hesse.hessian(cost(), memory=0),
        ValueError,
        r"memory: expected a number of bytes > 0, got 0",
    ),
    "unknown names in pairs": (
        lambda: hesse.hessian(cost(), pairs=[("0.wieght", "2.bias")]),
        KeyError,
        r"no parameter is named '0\.wieght'; the nearest .*'0\.weight'",
    ),
    "no pairs": (lambda: hesse.hessian(cost(), pairs=[]), ValueError, r"pairs: no pair was given"),
    "pairs that are names": (
        lambda: hesse.plan(cost(), pairs=iter(["0.weight"])),  # type: ignore[arg-type]
        TypeError,
        r"pairs: expected pairs of parameter names such as .*got '0\.weight'",
    ),
    "pairs and the block diagonal": (
        lambda: hesse.plan(cost(), pairs=[("0.weight", "0.bias")], block_diagonal=True),
        ValueError,
        r"pairs and block_diagonal: give one of the two",
    ),
    "the diagonal and the block diagonal": (
        lambda: hesse.plan(cost(), diagonal=True, block_diagonal=True),
        ValueError,
        r"diagonal, pairs and block_diagonal: give one of them",
    ),
    "a block that is not planned": (
        lambda: hesse.plan(cost(), block_diagonal=True).strategy("0.weight", "0.bias"),
        ValueError,
        r"the block \('0\.weight', '0\.bias'\) is not part of this plan",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("row", ERRORS.values(), ids=ERRORS)
def test_text(row: tuple[Callable[[], Any], type[Exception], str]) -> None:
    call, builtin, text = row
    with pytest.raises(hesse.HesseError, match=text) as caught:
        call()
    assert isinstance(caught.value, builtin)
    assert len(str(caught.value)) < 500


def test_every_error_is_also_a_builtin() -> None:
    kinds = [
        kind
        for kind in vars(hesse.errors).values()
        if isinstance(kind, type) and issubclass(kind, hesse.HesseError)
    ]
    for kind in set(kinds) - {hesse.HesseError}:
        assert any(
            base.__module__ == "builtins" and base is not Exception for base in kind.__mro__[1:-3]
        ), kind


def test_the_nearest_names_are_offered() -> None:
    assert nearest("wieght", ["bias", "weight", "scale"]) == "'weight'"
    assert nearest("zzz", ["a", "b"]) == "'a', 'b'"
    assert nearest("zzz", list("abcdefgh")) == "'a', 'b', 'c', 'd', 'e', 'f', ..."


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (2_300_000, "2.3 MB"), (6.4e10, "64 GB"), (5e13, "50 TB")],
)
def test_bytes_are_written_as_a_person_writes_them(count: float, text: str) -> None:
    assert readable_bytes(count) == text


def _said() -> Iterator[str]:
    """What hesse's errors say, as it stands in its source, and the classes that `require_instance`
    names."""
    for path in Path(hesse.__file__).parent.rglob("*.py"):
        source = path.read_text()
        # Few modules name anything of hesse's but where they import it.
        named = re.search(r"^(?!\s*(from|import) ).*\bhesse\.\w|require_instance\(", source, re.M)
        for node in ast.walk(ast.parse(source)) if named else ():
            made = node.exc if isinstance(node, ast.Raise) else node
            if isinstance(made, ast.Call) and isinstance(made.func, ast.Name):
                if made.func.id == "require_instance":
                    yield f"hesse.{ast.unparse(made.args[1])}"
                if made.func.id.startswith(("Hesse", "require_")):
                    for part in ast.walk(made):
                        if isinstance(part, ast.Constant) and isinstance(part.value, str):
                            yield part.value


def test_what_errors_name_is_public() -> None:
    said = "\n".join(_said())
    named = set(re.findall(r"\bhesse\.([A-Za-z_]\w*)", said))
    assert "Cost" in named and "operator" in named
    assert named <= set(hesse.__all__), named - set(hesse.__all__)
