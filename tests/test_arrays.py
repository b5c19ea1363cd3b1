"""A cost's data as arrays of NumPy, tables of pandas and data sets of single samples: the cost is
that of the tensors that one would write out."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import hesse
from hesse import HesseError

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(9, 3)), RANDOM.normal(size=(9, 2))
CLASSES, WEIGHTS = RANDOM.integers(2, size=9), RANDOM.uniform(1, 2, size=9)
TABLE = pd.DataFrame({"age": X[:, 0], "height": X[:, 1], "smokes": CLASSES.astype(bool)})
BATCHES = [(X[:4], Y[:4]), (X[4:], Y[4:])]


class Samples(Dataset[Any]):
    """One sample after another, of whatever they are made."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, index: int) -> Any:
        return tuple(part[index] for part in self.parts)


class Named(Samples):
    def __getitem__(self, index: int) -> Any:
        return {"x": self.parts[0][index], "y": self.parts[1][index]}


class Augmented(Samples):
    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x + np.float32(torch.rand(()).item() + np.random.rand()), y


class WithLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = linear()

    def forward(self, x: Any, y: Any) -> dict[str, Any]:
        return {"loss": nn.functional.mse_loss(self.net(x), y)}


def linear(dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2, dtype=dtype)


def real(array: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(np.asarray(array, dtype=float).tolist(), dtype=dtype)


def series(values: Any, name: str = "target") -> pd.Series:
    return pd.Series(values, name=name)


LABELS, PAIR = torch.tensor(CLASSES), (real(X), real(Y))
BINARY = np.stack([CLASSES, 1 - CLASSES], 1)
# By name: the loss, what is given, and the tensors that it stands for.
LOADER = DataLoader(BATCHES, batch_size=None, collate_fn=tuple)  # type: ignore[arg-type]
GIVEN: dict[str, tuple[Any, Any, Any]] = {
    "arrays": ("mse", (X, Y), PAIR),
    "a list": ("mse", [X, Y], PAIR),
    "single and double": ("mse", (X.astype("f4"), Y), PAIR),
    "half": ("mse", (X.astype("f2"), Y), (real(X.astype("f2")), real(Y))),
    "an array and a tensor": ("mse", (X, real(Y)), PAIR),
    "backwards": ("mse", (X[::-1], Y[::-1]), (real(X[::-1]), real(Y[::-1]))),
    "columns first, read-only": ("mse", (np.broadcast_to(X, X.shape), np.asfortranarray(Y)), PAIR),
    "another byte order": ("mse", (X.astype(">f8"), Y.astype(">f4")), PAIR),
    "weights": ("mse", (X, Y, WEIGHTS), (*PAIR, real(WEIGHTS))),
    "whole weights": ("mse", (X, Y, CLASSES + 1), (*PAIR, real(CLASSES + 1))),
    "batches": ("mse", BATCHES, PAIR),
    "two batches in a tuple": ("mse", tuple(BATCHES), PAIR),
    "a loader of arrays": ("mse", LOADER, PAIR),
    "classes": ("cross_entropy", (X, CLASSES), (real(X), LABELS)),
    "small classes": ("cross_entropy", (X, CLASSES.astype("u1")), (real(X), LABELS)),
    "true or false": ("cross_entropy", (X, CLASSES.astype(bool)), (real(X), LABELS)),
    "0 and 1": ("bce", (X, BINARY), (real(X), real(BINARY))),
    "signs": (nn.SoftMarginLoss(), (X, 2 * BINARY - 1), (real(X), real(2 * BINARY - 1))),
    "tables": ("mse", (TABLE, pd.DataFrame(Y)), (real(TABLE), real(Y))),
    "a table and a column": ("cross_entropy", (TABLE, series(CLASSES)), (real(TABLE), LABELS)),
    "a table and an array": ("cross_entropy", (TABLE, CLASSES), (real(TABLE), LABELS)),
    "pandas' own dtypes": (
        "cross_entropy",
        (TABLE.convert_dtypes(), series(CLASSES).astype("Int8")),
        (real(TABLE), LABELS),
    ),
    "probabilities in a table": (
        "cross_entropy",
        (TABLE, pd.get_dummies(series(CLASSES))),
        (real(TABLE), real(1 - BINARY)),
    ),
    "0 and 1 in a table": ("bce", (TABLE, pd.DataFrame(BINARY)), (real(TABLE), real(BINARY))),
    "samples": ("mse", Samples(X, Y), PAIR),
    "samples of tensors": ("mse", Samples(real(X), real(Y)), PAIR),
    "samples in a narrow dtype": ("mse", Samples(X.astype("f2"), Y.astype("f2")), None),
    "samples with numbers of Python": (
        "cross_entropy",
        Samples(X, CLASSES.tolist()),
        (real(X), LABELS),
    ),
    "samples with 0 and 1": ("bce", Samples(X, BINARY), (real(X), real(BINARY))),
    "samples with weights": ("mse", Samples(X, Y, WEIGHTS), (*PAIR, real(WEIGHTS))),
    "tensors in a data set": ("mse", TensorDataset(*PAIR), PAIR),
}


@pytest.mark.parametrize(("loss", "given", "written_out"), GIVEN.values(), ids=GIVEN)
def test_what_is_given_stands_for_tensors(loss: Any, given: Any, written_out: Any) -> None:
    if written_out is None:
        written_out = (real(X.astype("f2")), real(Y.astype("f2")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cost = hesse.Cost(linear(), loss, given)
    expected = hesse.Cost(linear(), loss, written_out)
    assert cost.samples == 9 and cost.loss is not None
    assert hesse.value(cost) == pytest.approx(hesse.value(expected), rel=1e-6)
    for batch, name in ((batch, name) for batch in cost.batches() for name in ("x", "y")):
        assert batch is not None
        part, other = getattr(batch, name), getattr(next(expected.batches()), name)
        dtypes = [t.dtype for t in (part if isinstance(part, tuple | list) else [part])]
        assert dtypes == [t.dtype for t in (other if isinstance(other, tuple | list) else [other])]


def test_numbers_have_the_dtype_of_the_model() -> None:
    cost = hesse.Cost(linear(torch.float64), "mse", (X, TABLE.iloc[:, :2]))
    (batch,) = cost.batches()
    assert batch is not None and batch.x.dtype == batch.y.dtype == torch.float64
    assert np.array_equal(batch.x.numpy(), X)


def test_arguments_by_name() -> None:
    expected = hesse.value(hesse.Cost(linear(), "mse", PAIR))
    for given in ({"x": X, "y": Y}, [{"x": X[:4], "y": Y[:4]}, {"x": X[4:], "y": Y[4:]}]):
        assert hesse.value(hesse.Cost(WithLoss(), data=given)) == pytest.approx(expected)
    assert hesse.value(hesse.Cost(WithLoss(), data=Named(X, Y))) == pytest.approx(expected)


def test_token_numbers_and_masks_stay_what_they_are() -> None:
    class Masked(nn.Embedding):
        def forward(self, tokens: Any, mask: Any) -> Any:  # type: ignore[override]
            assert mask.dtype == torch.bool
            return super().forward(tokens).masked_fill(mask[..., None], 0.0)

    tokens, mask = RANDOM.integers(4, size=(9, 5), dtype="i4"), RANDOM.random((9, 5)) < 0.5
    cost = hesse.Cost(Masked(4, 2), "mse", ((tokens, mask), RANDOM.normal(size=(9, 5, 2))))
    (batch,) = cost.batches()
    assert batch is not None and batch.x[0].dtype == torch.int64


def test_a_function_of_a_batch_gets_tensors() -> None:
    def f(params: Any, batch: Any) -> Any:
        x, y = batch
        assert x.dtype == torch.float64 and y.dtype == torch.int64
        return nn.functional.cross_entropy(x @ params["w"], y)

    params = {"w": torch.ones(3, 2).double()}
    assert hesse.value(hesse.Cost.from_function(f, params, (X, CLASSES))) > 0


def test_what_is_given_stays_as_it_is_and_later_changes_do_not_reach_the_cost() -> None:
    x, y = X.astype("f4"), pd.DataFrame(Y.astype("f4"), columns=["a", "b"])
    before, batches = (x.copy(), y.copy()), [(x, y)]
    cost = hesse.Cost(linear(), "mse", batches)
    value = hesse.value(cost)
    assert np.array_equal(x, before[0]) and y.equals(before[1]) and batches[0][0] is x
    x[:], y["a"] = 0.0, 100.0
    batches.clear()
    assert hesse.value(cost) == value


def test_tensors_of_a_data_set_are_not_copied() -> None:
    x, y = PAIR
    (batch,) = hesse.Cost(linear(), "mse", TensorDataset(x, y)).batches()
    assert batch is not None and batch.x.data_ptr() == x.data_ptr()


def test_samples_that_are_augmented_at_random_are_the_same_in_every_pass() -> None:
    torch.manual_seed(3)
    cost = hesse.Cost(linear(), "mse", Augmented(X.astype("f4"), Y))
    states = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"]
    value = hesse.value(cost)
    assert hesse.value(cost) == value != hesse.value(hesse.Cost(linear(), "mse", (X, Y)))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], states[1])


class Endless(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        return X[0], Y[0]


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(zip(X, Y, strict=True))


def with_column(values: Any, name: str = "income") -> pd.DataFrame:
    table = TABLE.iloc[:, :2].copy()
    table[name] = values
    return table


HOLE = np.where(np.arange(9) == 4, np.nan, X[:, 0])
ENDLESS = np.where(np.arange(9) == 4, np.inf, X[:, 0])
RAGGED = np.array([[1.0], [1.0, 2.0]] + 7 * [[1.0]], dtype=object)
# By name: what is given, and what is said of it.
REFUSED: dict[str, tuple[Any, str]] = {
    "a hole": ((with_column(HOLE), Y), "column 'income' has 1 missing value; fill"),
    "holes of pandas": (
        (with_column(pd.array([1, None] + 7 * [3], dtype="Int64")), Y),
        "column 'income' has 1 missing value;",
    ),
    "infinity": ((with_column(ENDLESS), Y), "column 'income' has 1 infinite value;"),
    "text": ((with_column(list("abcdefghi")), Y), "column 'income' is of str; expected real"),
    "objects": ((with_column([None] + 8 * [object()]), Y), "column 'income' is of object;"),
    "categories": (
        (with_column(pd.Categorical(list("aabbccaab"))), Y),
        "column 'income' is of category; expected real numbers: its codes, .cat.codes",
    ),
    "dates": (
        (with_column(pd.date_range("2020", periods=9)), Y),
        "column 'income' is of datetime64",
    ),
    "complex": ((with_column(1j * X[:, 0]), Y), "column 'income' is of complex128;"),
    "an unnamed column": ((X, pd.Series(HOLE)), "an unnamed column has 1 missing"),
    "other rows": (
        (TABLE, pd.DataFrame(Y)[::-1]),
        r"other labels \(.index\); bring them in one order, y.loc\[X.index\]",
    ),
    "rows of unequal lengths": ((RAGGED, Y), "rows of unequal lengths"),
    "an array of text": ((X.astype(str), Y), "holds <U32; expected numbers"),
    "an array of times": ((X.astype("m8[s]"), Y), "holds timedelta64"),
    "a masked array": ((np.ma.masked_invalid(HOLE[:, None]), Y), "1 entries of an array"),
    "not a number": ((np.stack(3 * [HOLE], 1), Y), "3 inputs that are not finite"),
    "too large": (
        (np.full((9, 3), 2**63, dtype="u8"), Y),
        "9223372036854775808 is too large for int64",
    ),
    "too many labels": ((X, Y[:8]), "has 9 inputs, and its targets have shape"),
    "an array alone": (X, "expected a pair"),
    "a table alone": (TABLE, "expected a pair"),
    "an array without axes": ((np.array(1.0), Y), "without axes"),
    "no table at all": ((TABLE[:0], pd.DataFrame(Y)[:0]), "the data set is empty"),
    "samples without end": (Endless(), "this Endless has no length"),
    "samples of unequal lengths": (Samples(RAGGED, Y), "reading a batch of this DataLoader failed"),
    "samples of None": (Samples([None] * 9, Y), "reading a batch of this DataLoader failed"),
    "streamed samples": (Streamed(), "batch 0|inputs"),
    "a data set that is empty": (Samples(X[:0], Y[:0]), "the data set is empty"),
}


@pytest.mark.parametrize(("given", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_numbers_is_refused(given: Any, said: str) -> None:
    with pytest.raises(HesseError, match=said):
        hesse.Cost(linear(), "mse", given)
