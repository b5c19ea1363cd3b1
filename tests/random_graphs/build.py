"""A network as a graph: values, each made by a piece from values before it; grown at random, each
piece tried as it comes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from random_graphs.dense import dense, wide
from random_graphs.joins import JOINS, SEVERAL, several
from random_graphs.layers import LAYERS
from random_graphs.plain import PLAIN, Apply, Maker, gathered, smooth
from random_graphs.sequences import SEQUENCES, embedding
from random_graphs.weights import Pool, Shape, Weight

LARGEST = 20.0  # of a value: larger ones cost digits, and the comparison is to nine
MOST_ENTRIES = 32  # of a value, for one sample
SPARE = (
    12  # values by which blocks that were begun and the end of a network may exceed what was asked
)


@dataclass(frozen=True)
class Step:
    """A value: the piece that makes it and the places of the values that go in."""

    module: nn.Module
    inputs: tuple[int, ...]


class Net(nn.Module):
    """Values in order; the first are what is put in, and the last, or several, are given out."""

    def __init__(
        self, given: int, steps: Sequence[Step], outputs: Sequence[int], repeated: bool = False
    ) -> None:
        """``repeated``: a piece that is used several times is held under as many names."""
        super().__init__()
        self.given, self.steps, self.outputs = given, [step.inputs for step in steps], list(outputs)
        held = (
            list(step.module for step in steps)
            if repeated
            else list(dict.fromkeys(step.module for step in steps))
        )
        self.pieces = nn.ModuleList(held)
        self.order = [
            place if repeated else held.index(step.module) for place, step in enumerate(steps)
        ]

    def walk(self) -> Iterator[Step]:
        """The values in order."""
        for place, inputs in zip(self.order, self.steps, strict=True):
            yield Step(self.pieces[place], inputs)

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        values: list[Tensor] = list(x) if isinstance(x, tuple) else [x]
        for step in self.walk():
            values.append(step.module(*(values[place] for place in step.inputs)))
        made = [values[place] for place in self.outputs]
        return tuple(made) if len(made) > 1 else made[0]

    def described(self) -> list[str]:
        """One line for each value."""
        names = {id(parameter): name for name, parameter in self.named_parameters()}
        return [
            f"v{place} = {_described(step.module, names)} of"
            f" {', '.join(f'v{value}' for value in step.inputs)}"
            for place, step in enumerate(self.walk(), self.given)
        ]


def _described(piece: nn.Module, names: dict[int, str]) -> str:
    if isinstance(piece, Apply):
        weights = [
            weight.described(names) for weight in piece.weights if isinstance(weight, Weight)
        ]
        return f"[{piece.text}]" + (f" with {'; '.join(weights)}" if weights else "")
    text = " ".join(str(piece).split())
    tied = [
        name
        for name, parameter in piece.named_parameters()
        if not names.get(id(parameter), name).endswith(name)
    ]
    return text + (f" (tied: {', '.join(tied)})" if tied else "")


def pruned(
    given: int, steps: Sequence[Step], outputs: Sequence[int]
) -> tuple[list[Step], list[int]]:
    """Only the values that the outputs need."""
    needed = set(outputs)
    for place in range(len(steps) - 1, -1, -1):
        if place + given in needed:
            needed |= set(steps[place].inputs)
    kept = [place for place in range(len(steps)) if place + given in needed]
    number = {
        **{place: place for place in range(given)},
        **{place + given: given + new for new, place in enumerate(kept)},
    }
    renumbered = [
        Step(steps[place].module, tuple(number[value] for value in steps[place].inputs))
        for place in kept
    ]
    return renumbered, [number[place] for place in outputs]


class Builder:
    """Grows a network; every value is held for every batch, so that a piece that does not fit, or
    blows up, is never taken."""

    def __init__(
        self, pool: Pool, batches: Sequence[Tensor | tuple[Tensor, ...]], limit: int, most: int
    ) -> None:
        """At most ``limit`` entries of parameters, and about ``most`` values."""
        self.pool, self.draw, self.limit, self.most = pool, pool.draw, limit, most
        first = [batch if isinstance(batch, tuple) else (batch,) for batch in batches]
        self.values: list[list[Tensor]] = [list(parts) for parts in zip(*first, strict=True)]
        self.given = len(self.values)
        self.steps: list[Step] = []
        self.used: set[int] = set()
        self.sites = 0
        self._parameters: dict[int, int] = {}

    # ------------------------------------------------------------ one piece

    def shape(self, place: int) -> Shape:
        """Of one sample of the first batch."""
        return tuple(self.values[place][0].shape[1:])

    @property
    def usable(self) -> list[int]:
        """The places of the values that are not token numbers."""
        return [place for place, value in enumerate(self.values) if value[0].is_floating_point()]

    def add(self, module: nn.Module | None, *inputs: int) -> int | None:
        """Take a piece if it runs on every batch and what it gives is fit for more; else None."""
        own = (
            {id(parameter): parameter.numel() for parameter in module.parameters()}
            if module
            else {}
        )
        if (
            module is None
            or sum((self._parameters | own).values()) > self.limit
            or len(self.steps) >= self.most + SPARE
        ):
            return None
        try:
            with torch.no_grad():
                made = [
                    module(*(self.values[place][at] for place in inputs))
                    for at in range(len(self.values[0]))
                ]
        except (RuntimeError, ValueError, IndexError, AssertionError, NotImplementedError):
            return None
        if not all(_fit(value, len(self.values[0][at])) for at, value in enumerate(made)):
            return None
        self._parameters |= own
        self.pool.keep(module)
        self.sites += bool(own)
        self.steps.append(Step(module, inputs))
        self.values.append(made)
        self.used |= set(inputs)
        return len(self.values) - 1

    def grow(self, place: int, table: Sequence[tuple[float, Maker]], tries: int = 8) -> int | None:
        """A piece from a table on one value; other pieces where the first does not fit."""
        for _ in range(tries):
            (make,) = self.draw.choices(
                [make for _, make in table], [weight for weight, _ in table]
            )
            self.pool.begin()
            made = self.add(make(self.pool, self.shape(place)), place)
            if made is not None:
                return made
        return None

    def pick(self) -> int:
        """A value to go on from: mostly a late one."""
        usable = self.usable
        return usable[-1] if self.pool.chance(0.5) else self.draw.choice(usable[-6:])

    # ------------------------------------------------------------ several pieces

    def dense(self, place: int, outputs: int) -> int | None:
        for _ in range(4):
            self.pool.begin()
            made = self.add(dense(self.pool, self.shape(place), outputs), place)
            if made is not None and self.shape(made)[-1] == outputs:
                return made
        self.pool.begin()
        return self.add(nn.Linear(self.shape(place)[-1], outputs).double(), place)

    def vector(self, place: int) -> int | None:
        """A value without further axes."""
        if len(self.shape(place)) == 1:
            return place
        for _ in range(6):
            made = self.add(gathered(self.pool, self.shape(place)), place)
            if made is not None:
                return made
        return None

    def like(self, place: int, shape: Shape) -> int | None:
        """From one value to another of a given shape."""
        if self.shape(place) == shape:
            return place
        if len(shape) > 1 and self.shape(place)[:-1] == shape[:-1]:
            return self.dense(place, shape[-1])
        start = self.vector(place)
        size = torch.Size(shape).numel()
        if start is None or len(shape) == 1:
            return None if start is None else self.dense(start, size)
        wide = self.dense(start, size) if size <= 8 else None
        return (
            None
            if wide is None
            else self.add(Apply(f"reshape to {shape}", lambda x: x.reshape(-1, *shape)), wide)
        )

    def block(self, place: int) -> list[nn.Module] | None:
        """A linear piece and a curve, as a chain of modules that keeps the value's shape."""
        table = [*LAYERS, *SEQUENCES]
        for _ in range(12):
            self.pool.begin()
            (make,) = self.draw.choices(
                [make for _, make in table], [weight for weight, _ in table]
            )
            first = (
                make(self.pool, self.shape(place))
                if self.pool.chance(0.7)
                else dense(self.pool, self.shape(place), self.shape(place)[-1])
            )
            if first is None:
                continue
            chain = (
                [first, smooth(self.pool, ())]
                if self.pool.chance(0.6)
                else [smooth(self.pool, ()), first]
            )
            with torch.no_grad():
                try:
                    value = self.values[place][0]
                    for module in chain:
                        value = module(value)
                except (RuntimeError, ValueError, IndexError, AssertionError, NotImplementedError):
                    continue
            if value.shape == self.values[place][0].shape:
                return chain
        return None

    def through(self, place: int, chain: Sequence[nn.Module]) -> int | None:
        at: int | None = place
        for module in chain:
            at = None if at is None else self.add(module, at)
        return at

    # ------------------------------------------------------------ what a network does next

    def layer(self) -> None:
        made = self.grow(self.pick(), [*LAYERS, *SEQUENCES])
        if made is not None and self.pool.chance(0.6):
            self.add(smooth(self.pool, self.shape(made)), made)

    def plain(self) -> None:
        self.grow(self.pick(), PLAIN)

    def again(self) -> None:
        """A piece that is there already, on another value."""
        place, known = (
            self.pick(),
            [step for step in self.steps if any(True for _ in step.module.parameters())],
        )
        fitting = [step for step in known if len(step.inputs) == 1]
        if fitting:
            self.add(self.draw.choice(fitting).module, place)

    def join(self) -> None:
        """Values of one shape: those that are there, or branches made for it."""
        (chosen,) = self.draw.choices(JOINS, [weight for weight, _, _ in JOINS])
        _, (least, most), make = chosen
        count = self.draw.randint(least, most)
        start = self.pick()
        shape = self.shape(start)
        same = [place for place in self.usable if self.shape(place) == shape and place != start]
        self.draw.shuffle(same)
        branches = [start, *same[: self.draw.randint(0, count - 1)]]
        while len(branches) < count:
            source = self.draw.choice([start, start, self.pick()])
            made = self.grow(source, [*LAYERS, *PLAIN[:2]])
            branch = None if made is None else self.like(made, shape)
            branches.append(start if branch is None else branch)
        if self.pool.chance(0.5):
            self.draw.shuffle(branches)
        for _ in range(3):
            self.pool.begin()
            if self.add(make(self.pool, [shape] * count), *branches) is not None:
                return

    def residual(self) -> None:
        """z = z + f(z) over three or more blocks, each of its own or one again and again."""
        at: int | None = self.pick()
        form = self.draw.choice(
            ["own", "own", "own", "shared", "alternating", "scaled", "gated", "by tree"]
        )
        blocks: list[list[nn.Module]] = []
        for count in range(self.draw.choice([3, 3, 4])):
            assert at is not None
            fresh = (
                not blocks
                or form not in ("shared", "alternating")
                or (form == "alternating" and len(blocks) < 2)
            )
            chain = self.block(at) if fresh else blocks[count % len(blocks)]
            if chain is None:
                return
            blocks += [chain] if fresh else []
            inner = self.through(at, chain)
            if inner is None:
                return
            text, function = {
                "scaled": ("x + 0.3 f", lambda x, f: x + 0.3 * f),
                "gated": ("x + x f", lambda x, f: x + x * f),
                "by tree": ("f + x", lambda x, f: f + x),
            }.get(form, ("x + f", torch.add))
            step = self.add(Apply(text, function), at, inner)
            if step is None:
                return
            at = step

    def flow(self) -> None:
        """One block again and again: Euler's steps, or Runge and Kutta's."""
        at = self.pick()
        chain = self.block(at)
        if chain is None:
            return
        step = self.draw.choice(["Euler", "midpoint", "Heun", "Runge-Kutta"])
        for _ in range(3 if step == "Euler" else 2):
            made = self._advanced(at, chain, step)
            if made is None:
                return
            at = made

    def _advanced(self, at: int, chain: Sequence[nn.Module], step: str) -> int | None:
        slopes = [self.through(at, chain)]
        for shift in {
            "Euler": [],
            "midpoint": [0.25],
            "Heun": [0.5],
            "Runge-Kutta": [0.25, 0.25, 0.5],
        }[step]:
            if slopes[-1] is None:
                return None
            moved = self.add(
                Apply(f"x + {shift} k", lambda x, k, h=shift: x + h * k), at, slopes[-1]
            )
            slopes.append(None if moved is None else self.through(moved, chain))
        if any(slope is None for slope in slopes):
            return None
        factors = {
            "Euler": [0.5],
            "midpoint": [0, 0.5],
            "Heun": [0.25, 0.25],
            "Runge-Kutta": [1 / 12, 1 / 6, 1 / 6, 1 / 12],
        }[step]
        used = [
            (slope, factor)
            for slope, factor in zip(slopes, factors, strict=True)
            if slope is not None and factor
        ]

        def advance(x: Tensor, *k: Tensor) -> Tensor:
            for (_, factor), slope in zip(used, k, strict=True):
                x = x + factor * slope
            return x

        return self.add(Apply(f"{step} step", advance), at, *(slope for slope, _ in used))

    def densenet(self) -> None:
        """z = cat(z, f(z)) over several blocks."""
        at = self.pick()
        for _ in range(3):
            made = self.grow(at, [(1, lambda pool, shape: dense(pool, shape, 1))])
            curved = None if made is None else self.add(smooth(self.pool, ()), made)
            joined = (
                None
                if curved is None
                else self.add(
                    Apply("cat(z, f), axis -1", lambda z, f: torch.cat([z, f], -1)), at, curved
                )
            )
            if joined is None:
                return
            at = joined

    def start(self, vocabulary: int) -> None:
        """Token numbers become vectors before anything else."""
        for place in range(self.given):
            while not self.values[place][0].is_floating_point() and place not in self.used:
                self.pool.begin()
                self.add(embedding(self.pool, vocabulary), place)

    def run(self, sites: int, vocabulary: int, wide_too: bool) -> None:
        """Pieces until there are as many with parameters as asked, or no more fit; ``wide_too``:
        one with a large parameter."""
        self.start(vocabulary)
        if wide_too:
            self.limit += 300
            self.pool.begin()
            self.add(wide(self.pool, self.shape(self.usable[-1])), self.usable[-1])
        actions = [
            self.layer,
            self.plain,
            self.again,
            self.join,
            self.residual,
            self.flow,
            self.densenet,
        ]
        tries = 0
        while self.sites < sites and tries < 30 and len(self.steps) < self.most:
            tries += 1
            (action,) = self.draw.choices(actions, [6, 3, 1, 5, 2, 0.8, 0.6])
            action()

    def loose_ends(self) -> list[int]:
        """Values that nothing has read, the last first, at most five."""
        ends = [
            place
            for place in self.usable
            if place not in self.used and (place >= self.given or self.given > 1)
        ]
        return (ends or self.usable[-1:])[::-1][:5]

    def merged(self, shape: Shape | None) -> int:
        """One value of the loose ends."""
        ends = self.loose_ends()
        shape = shape or self.shape(ends[0])
        same = [made for place in ends if (made := self.like(place, shape)) is not None]
        if len(same) < 2:
            return same[0] if same else ends[0]
        for _ in range(4):
            made = self.add(several(self.pool, [shape] * len(same)), *same)
            if made is not None:
                return made
        made = self.add(Apply(*SEVERAL[0]), *same[:2])
        return same[0] if made is None else made


def _fit(value: object, samples: int) -> bool:
    if (
        not isinstance(value, Tensor)
        or value.dtype != torch.float64
        or not 2 <= value.ndim <= 4
        or len(value) != samples
    ):
        return False
    if not 0 < value[0].numel() <= MOST_ENTRIES or not bool(torch.isfinite(value).all()):
        return False
    return 1e-3 < float(value.abs().max()) < LARGEST
