"""The data of a cost: read again and again, always the same samples."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from hesse.data.arrays import Numbers
from hesse.data.batch import Batch, concatenate
from hesse.data.dataset import Data

CPU = torch.device("cpu")
NUMBERS = Numbers(torch.float32)
X, Y = torch.arange(14.0).reshape(7, 2), torch.arange(7)


def read(source: Any) -> list[Batch]:
    return list(Data(source, CPU, NUMBERS))


class Again:
    """Batches from a function, anew in every pass."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        return iter(self.make())


@pytest.mark.parametrize(
    "source",
    [
        (X, Y),
        [X, Y],
        [(X[:4], Y[:4]), (X[4:], Y[4:])],
        ((X[:4], Y[:4]), [X[4:], Y[4:]]),
        [(X[:4], Y[:4]), (X[:0], Y[:0]), (X[4:], Y[4:])],
        Again(lambda: [(X, Y)]),
        DataLoader(TensorDataset(X, Y), batch_size=3),
    ],
    ids=[
        "pair",
        "list of two tensors",
        "two batches",
        "tuple of batches",
        "an empty batch",
        "re-iterable",
        "loader",
    ],
)
def test_every_form_gives_the_samples_in_order(source: Any) -> None:
    whole = concatenate(read(source))
    assert torch.equal(whole.x, X) and torch.equal(whole.y, Y)


def test_inputs_may_be_nested() -> None:
    (batch,) = read(({"a": X, "b": [Y]}, Y))
    assert batch.size == 7
    part = batch.take(slice(2, 5))
    assert torch.equal(part.x["b"][0], Y[2:5]) and part.size == 3
    together = concatenate([batch.take(slice(0, 2)), batch.take(slice(2, 7))])
    assert torch.equal(together.x["a"], X) and torch.equal(together.y, Y)


def test_narrow_floating_tensors_are_widened_and_nothing_else() -> None:
    batch = Batch((X.half(), Y), X.double()).to(CPU, torch.float32)
    assert (
        batch.x[0].dtype == torch.float32
        and batch.x[1].dtype == torch.int64
        and batch.y.dtype == torch.float64
    )
    assert Batch(X.half(), Y).to(CPU, None).x.dtype == torch.float16


def test_a_loader_that_draws_at_random_gives_the_same_in_every_pass() -> None:
    class Noisy(TensorDataset):
        def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
            x, y = super().__getitem__(index)
            return x + torch.randn(2), y

    data = Data(DataLoader(Noisy(X, Y), batch_size=2, shuffle=True, drop_last=True), CPU, NUMBERS)
    first = list(data)
    torch.rand(3)
    for a, b in zip(first, data, strict=True):
        assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y)
    assert data.validate(lambda index, batch: None) == 6


def test_what_is_drawn_between_batches_is_drawn_as_without_a_loader() -> None:
    state = torch.get_rng_state()
    alone = [torch.rand(1) for _ in range(3)]
    torch.set_rng_state(state)
    between = [
        torch.rand(1)
        for _ in Data(DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True), CPU, NUMBERS)
    ]
    assert torch.equal(torch.cat(alone), torch.cat(between))
