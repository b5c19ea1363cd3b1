"""From a seed to a network, its loss, its data and the parameters asked about."""

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from cases import Problem
from random_graphs.build import Builder, Net, pruned
from random_graphs.losses import (
    PENALTIES,
    Ending,
    Weigh,
    by_samples,
    half_normal,
    numbers,
    of_classes,
    of_numbers,
)
from random_graphs.plain import Apply
from random_graphs.weights import Pool

VOCABULARY = 4
MOST = 24
Input = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Graph:
    """A random problem, and what the reference has to know of it.

    Attributes:
        seed: what it was drawn from.
        problem: the cost's arguments.
        net: the network, apart from the problem's model.
        batches: the data, batch by batch.
        loss: the loss, which may be part of the problem's model.
        weigh: what each batch counts for in the mean; None for a sum.
    """

    seed: int
    problem: Problem
    net: Net
    batches: list[tuple[Input, Tensor]]
    loss: Any
    weigh: Weigh
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # A copy: after `functional_call`, torch may leave other tensors in a module that is held
        # under several names.
        object.__setattr__(self, "net", copy.deepcopy(self.net))

    def described(self) -> str:
        """The network in one line for each value, then its loss, data and parameters."""
        shapes = ", ".join(
            str([tuple(t.shape) for t in (x if isinstance(x, tuple) else (x,))])[1:-1]
            for x, _ in self.batches
        )
        name = getattr(self.loss, "__name__", " ".join(str(self.loss).split()))
        outputs = ", ".join(f"v{place}" for place in self.net.outputs)
        lines = [
            f"batches {shapes}",
            *self.net.described(),
            f"loss {name} of {outputs}",
            *self.notes,
        ]
        return "\n".join(lines)


def graph_of(seed: int, most: int = MOST) -> Graph:
    """The graph of a seed with about so many values at most: always the same. The global random
    state is left as it was."""
    draw = random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(20):
            made = _drawn(seed, draw, most)
            if made is not None:
                return made
    raise AssertionError(f"seed {seed} gave no network in twenty tries")


def _drawn(seed: int, draw: random.Random, most: int) -> Graph | None:
    pool = Pool(draw)
    xs, varied = _inputs(draw)
    builder = Builder(pool, xs, draw.choice([20, 30, 40, 60]), most)
    builder.run(draw.randint(3, 9), VOCABULARY, wide_too=pool.chance(0.02))
    outputs, ending = _ended(builder, single=len(xs) == 1)
    if outputs is None or ending is None:
        return None
    predictions = [tuple(builder.values[place][at] for place in outputs) for at in range(len(xs))]
    batches = [
        (x, ending.targets(prediction[0])) for x, prediction in zip(xs, predictions, strict=True)
    ]
    spare = pool.chance(0.1)  # a network may hold more than it uses
    steps, outputs = (
        (builder.steps, outputs) if spare else pruned(builder.given, builder.steps, outputs)
    )
    if not 3 <= sum(any(True for _ in step.module.parameters()) for step in steps) <= 10:
        return None
    return _posed(seed, pool, Net(builder.given, steps, outputs), ending, batches, varied)


# ---------------------------------------------------------------- data


def _inputs(draw: random.Random) -> tuple[list[Input], bool]:
    """What is put in, batch by batch, and whether the batches differ in length."""
    kind = draw.choice(["vector", "vector", "tokens", "tokens", "image", "numbers", "two"])
    d, t = draw.choice([1, 2, 2, 3]), draw.choice([2, 3, 4])
    sizes = draw.choice([[1], [2], [3], [4], [5], [2, 1], [2, 2, 1], [3, 2], [1, 2, 2], [1, 1]])
    varied = len(sizes) > 1 and kind in ("tokens", "numbers", "two") and draw.random() < 0.5
    lengths = [draw.choice([2, 3, 4]) if varied else t for _ in sizes]
    if varied and len(set(lengths)) == 1:
        lengths[-1] = lengths[0] % 4 + 1
    image = draw.choice([(1, 3, 3), (2, 2, 3), (1, 4, 3), (2, 3, 2)])
    xs: list[Input] = []
    for n, length in zip(sizes, lengths, strict=True):
        if kind == "numbers":
            xs.append(torch.randint(VOCABULARY, (n, length)))
        elif kind == "two":
            xs.append((_x(n, d), _x(n, length, d)))
        else:
            xs.append(_x(n, *{"vector": (d,), "tokens": (length, d), "image": image}[kind]))
    return xs, varied


def _x(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


# ---------------------------------------------------------------- the end of a network


def _ended(builder: Builder, single: bool) -> tuple[list[int] | None, Ending | None]:
    """The places of what the network gives, and a loss for it."""
    pool = builder.pool
    end = pool.draw.choice(
        ["classes", "classes", "tokens", "as it is", "as it is", "numbers", "one number", "two"]
    )
    if end == "two":
        first = builder.vector(builder.loose_ends()[0])
        mean = None if first is None else builder.dense(first, 2)
        spread = None if first is None else builder.dense(first, 2)
        if mean is None or spread is None:
            return None, None
        return [mean, spread], Ending(half_normal, numbers, by_samples)
    shape = None if end in ("as it is", "tokens") else (pool.width(),)
    place: int | None = builder.merged(shape)
    if end in ("classes", "tokens"):
        place = builder.dense(place, pool.width(2))
        if place is not None and len(builder.shape(place)) > 1:
            moved = Apply("movedim(-1, 1)", lambda x: x.movedim(-1, 1))
            place = builder.add(moved, place)
        if place is None:
            return None, None
        return _last(builder, place, of_classes(pool, builder.shape(place)[0]))
    if end in ("numbers", "one number") and pool.chance(0.7):
        place = builder.dense(place, 1 if end == "one number" else pool.width())
    ending = of_numbers(pool)
    while place is None or (ending.single and not single):
        place, ending = builder.usable[-1] if place is None else place, of_numbers(pool)
    return _last(builder, place, ending)


def _last(builder: Builder, place: int, ending: Ending) -> tuple[list[int] | None, Ending | None]:
    if ending.last is None:
        return [place], ending
    made = builder.add(Apply(*ending.last), place)
    return (None, None) if made is None else ([made], ending)


# ---------------------------------------------------------------- the problem


def _posed(
    seed: int,
    pool: Pool,
    net: Net,
    ending: Ending,
    batches: list[tuple[Input, Tensor]],
    varied: bool,
) -> Graph:
    draw, notes = pool.draw, []
    names = [name for name, _ in net.named_parameters()]
    if pool.chance(0.2) and len(names) > 1:
        frozen = draw.sample(names, draw.randint(1, len(names) // 2))
        for name in frozen:
            net.get_parameter(name).requires_grad_(False)
        notes.append(f"frozen: {', '.join(frozen)}")
    free = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    penalty = draw.choice(PENALTIES)
    if penalty is not None:
        notes.append(f"penalty {getattr(penalty, '__name__', penalty)}")
    if varied:
        notes.append("lengths differ from batch to batch")
    data = _data(pool, batches, notes)
    equal = len({prediction_shape(x) for x, _ in batches}) == 1
    way = draw.choice(["module"] * 6 + ["function", "whole"])
    # A function of parameters and batch is a mean over samples: its loss must weigh every sample
    # alike.
    if way == "whole" and (ending.weigh is not by_samples or not equal):
        way = "function"
    if way == "module":
        if pool.chance(0.15):
            net = Net(net.given, list(net.walk()), net.outputs, repeated=True)
            free = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
            notes.append("pieces that come again are held under several names")
        params = _chosen(pool, free, notes)
        return Graph(
            seed,
            Problem(net, ending.loss, data, params, penalty),
            net,
            batches,
            ending.loss,
            ending.weigh,
            tuple(notes),
        )
    values = {name: net.get_parameter(name).detach().clone() for name in free}
    notes.append(
        "a function of a dictionary of parameters"
        if way == "function"
        else "a function of parameters and batch"
    )
    if way == "function":
        problem = Problem(_as_function(net), ending.loss, data, values, penalty)
    else:
        problem = Problem(_with_loss(net, ending.loss), None, data, values, penalty)
    return Graph(seed, problem, net, batches, ending.loss, ending.weigh, tuple(notes))


def prediction_shape(x: Input) -> tuple[int, ...]:
    return tuple((x[0] if isinstance(x, tuple) else x).shape[1:])


def _data(pool: Pool, batches: list[tuple[Input, Tensor]], notes: list[str]) -> Any:
    if len(batches) == 1:
        return batches[0] if pool.chance(0.8) else batches
    sizes = [len(y) for _, y in batches]
    even = (
        len(set(sizes[:-1])) == 1
        and sizes[-1] <= sizes[0]
        and len({(prediction_shape(x), y.shape[1:]) for x, y in batches}) == 1
    )
    xs = [x for x, _ in batches if isinstance(x, Tensor)]
    if xs and even and pool.chance(0.4):
        notes.append("a DataLoader")
        return DataLoader(
            TensorDataset(torch.cat(xs), torch.cat([y for _, y in batches])), batch_size=sizes[0]
        )
    return batches


def _chosen(pool: Pool, names: Sequence[str], notes: list[str]) -> Any:
    draw = pool.draw
    if not pool.chance(0.25):
        return None
    some = draw.sample(list(names), draw.randint(1, len(names)))
    notes.append(f"params: {', '.join(some)}")
    pattern = names[0].rsplit(".", 1)[-1]
    ways: list[Any] = [some, some, lambda name: name in some, [f"*{pattern}"]]
    chosen = draw.choice(ways)
    if chosen is ways[-1]:
        notes[-1] = f"params: *{pattern}"
    return chosen


def _as_function(net: Net) -> Callable[[dict[str, Tensor], Input], Any]:
    def model(parameters: dict[str, Tensor], x: Input) -> Any:
        return functional_call(net, parameters, (x,))

    return model


def _with_loss(
    net: Net, loss: Callable[[Any, Tensor], Tensor]
) -> Callable[[dict[str, Tensor], tuple[Input, Tensor]], Tensor]:
    def cost(parameters: dict[str, Tensor], batch: tuple[Input, Tensor]) -> Tensor:
        return loss(functional_call(net, parameters, (batch[0],)), batch[1])

    return cost


def modules_used(net: nn.Module) -> list[str]:
    """The kinds of pieces in a network, for counting."""
    return sorted(
        {
            piece.text if isinstance(piece, Apply) else type(piece).__name__
            for piece in net.modules()
            if piece is not net
        }
    )
