"""Tensors that are made of parameters: their own, tied, transposed, sliced, viewed, or computed
from several.

What a piece of a network needs is a tensor of some shape; where it comes from is drawn here, so
that every way in which a parameter can enter meets every operation.
"""

import math
import random
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, ...]
Parts = Callable[[Shape], Sequence[Shape] | None]


class Weight(nn.Module):
    """A tensor computed from parameters; ``text`` says how, with a place for each name."""

    def __init__(self, text: str, function: Callable[..., Tensor], *parts: nn.Parameter) -> None:
        super().__init__()
        self.text, self.function, self.parts = text, function, nn.ParameterList(parts)

    def forward(self) -> Tensor:
        return self.function(*self.parts)

    def described(self, names: dict[int, str]) -> str:
        return self.text.format(*(names.get(id(part), "?") for part in self.parts))


def _same(shape: Shape) -> list[Shape]:
    return [shape]


def _matrix(*parts: Callable[[int, int], Shape]) -> Parts:
    return lambda shape: [part(*shape) for part in parts] if len(shape) == 2 else None


def _any_axis(shape: Shape) -> list[Shape] | None:
    return [shape] if shape else None


def _scalar(*parts: Shape) -> Parts:
    return lambda shape: list(parts) if shape == () else None


def _whole(rows: int, columns: int) -> Shape:
    return rows, columns


# How a tensor of a shape is computed: a text, the shapes of its parts (None where it does not
# apply), the function.
COMPUTED: list[tuple[str, Parts, Callable[..., Tensor]]] = [
    (
        "{} + {} @ {}",
        _matrix(_whole, lambda o, i: (o, 1), lambda o, i: (1, i)),
        lambda w, b, a: w + b @ a,
    ),
    ("{} @ {}", _matrix(lambda o, i: (o, 2), lambda o, i: (2, i)), lambda b, a: b @ a),
    (
        "{0} * {1} / norm of rows({1})",
        _matrix(lambda o, i: (o, 1), _whole),
        lambda g, v: g * v / v.norm(dim=1, keepdim=True),
    ),
    ("outer({}, {})", _matrix(lambda o, i: (o,), lambda o, i: (i,)), torch.outer),
    (
        "outer({}, {}) + {}",
        _matrix(lambda o, i: (o,), lambda o, i: (i,), _whole),
        lambda u, v, w: torch.outer(u, v) + w,
    ),
    ("tril({})", _matrix(_whole), torch.tril),
    ("diag({0}) @ {1}", _matrix(lambda o, i: (o,), _whole), lambda d, w: torch.diag(d) @ w),
    (
        "stack({}, ...)",
        _matrix(lambda o, i: (i,), _whole),
        lambda row, w: torch.cat([row[None], w[1:]]),
    ),
    (
        "{0} + {0}.T where square",
        lambda s: [s] if len(s) == 2 and s[0] == s[1] else None,
        lambda w: (w + w.T) / 2,
    ),
    (
        "matrix_exp of {} skewed",
        lambda s: [s] if len(s) == 2 and s[0] == s[1] else None,
        lambda w: torch.matrix_exp(w - w.T),
    ),
    (
        "cat({}, {})",
        lambda s: [(1, *s[1:]), (s[0] - 1, *s[1:])] if s and s[0] > 1 else None,
        lambda a, b: torch.cat([a, b]),
    ),
    (
        "{}.expand",
        lambda s: [(*s[:-1], 1)] if s and s[-1] > 1 else None,
        lambda w: torch.cat([w, w.expand(*w.shape[:-1], 3)], -1),
    ),
    ("{} * {}", lambda s: [s, ()], lambda w, a: w * a),
    ("{} + {}", lambda s: [s, s], lambda a, b: a + b),
    ("{} * {}", lambda s: [s, s], lambda a, b: a * b),
    ("softplus({})", _same, F.softplus),
    ("exp({} / 2)", _same, lambda w: (w / 2).exp()),
    ("sin({})", _same, torch.sin),
    ("0.5 * {}", _same, lambda w: 0.5 * w),
    ("-{}", _same, lambda w: -w),
    ("{}.clone()", _same, lambda w: w.clone()),
    ("{0} * {0}", _same, lambda w: w * w),
    ("{0} / norm({0})", _any_axis, lambda w: w / w.norm()),
    ("normalize({})", _any_axis, lambda w: F.normalize(w + 0.1, dim=-1)),
    ("{0} - mean({0})", _any_axis, lambda w: w - w.mean()),
    ("softmax({})", _any_axis, lambda w: w.softmax(-1)),
    ("{}.flip", _any_axis, lambda w: w.flip(0)),
    ("{}.roll", _any_axis, lambda w: w.roll(1, -1)),
    ("where({0} > 0, {0}, 0.1 * {0})", _same, lambda w: torch.where(w > 0, w, 0.1 * w)),
    ("{} * {}", _scalar((), ()), lambda a, b: a * b),
    ("{} + exp({})", _scalar((), ()), lambda a, b: a + (b / 2).exp()),
    ("{0} / (1 + {1} * {1})", _scalar((), ()), lambda a, b: a / (1 + b * b)),
    ("{} * {} * {}", _scalar((), (), ()), lambda a, b, c: a * b * c),
    ("{}.sum()", _scalar((2,)), torch.sum),
    ("{}.norm()", _scalar((1, 2)), torch.norm),
    ("{} @ {}", _scalar((2,), (2,)), torch.dot),
    ("{}.prod()", _scalar((2,)), torch.prod),
]


class Pool:
    """The parameters of a network in the making, and the drawing that decides how they are used."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self._held: list[nn.Parameter] = []
        self._new: list[nn.Parameter] = []

    @property
    def known(self) -> list[nn.Parameter]:
        return [*self._held, *self._new]

    def begin(self) -> None:
        """Forget the parameters of a piece that was not taken."""
        self._new = []

    def keep(self, module: nn.Module) -> None:
        """The parameters of a piece that was taken may be used by later ones."""
        held = {id(parameter) for parameter in self._held}
        self._held += [parameter for parameter in module.parameters() if id(parameter) not in held]
        self._new = []

    def chance(self, of: float) -> bool:
        return self.draw.random() < of

    def width(self, least: int = 1) -> int:
        return max(least, self.draw.choice([1, 2, 2, 2, 3, 3]))

    def axis(self, shape: Shape) -> int:
        """An axis of a value, samples left out, counted from either end."""
        axis = self.draw.randrange(1, len(shape) + 1)
        return axis - len(shape) - 1 if self.chance(0.5) else axis

    def fresh(self, shape: Shape) -> nn.Parameter:
        made = nn.Parameter(0.7 * torch.randn(shape, dtype=torch.float64))
        self._new.append(made)
        return made

    def part(self, shape: Shape) -> nn.Parameter:
        """A parameter of this very shape, sometimes one that is used already."""
        same = [parameter for parameter in self.known if parameter.shape == shape]
        return self.draw.choice(same) if same and self.chance(0.3) else self.fresh(shape)

    def weight(self, shape: Shape) -> Weight:
        """A tensor of this shape, made in some way of parameters."""
        ways: list[Callable[[Shape], Weight | None]] = [
            self._own, self._tied, self._transposed, self._sliced, self._viewed, self._computed
        ]  # fmt: skip
        (way,) = self.draw.choices(ways, [9, 2, 3, 3, 1, 4])
        return way(shape) or self._own(shape)

    def _own(self, shape: Shape) -> Weight:
        return Weight("{}", _itself, self.fresh(shape))

    def _tied(self, shape: Shape) -> Weight | None:
        same = [parameter for parameter in self.known if parameter.shape == shape]
        return Weight("{}", _itself, self.draw.choice(same)) if same else None

    def _transposed(self, shape: Shape) -> Weight | None:
        if len(shape) < 2:
            return None
        turned = (*shape[:-2], shape[-1], shape[-2])
        parameter = self.part(turned)
        ways: list[tuple[str, Callable[[Tensor], Tensor]]] = [
            ("{}.mT", lambda w: w.mT),
            ("{}.transpose(-2, -1)", lambda w: w.transpose(-2, -1)),
            ("{}.movedim(-1, -2)", lambda w: w.movedim(-1, -2)),
        ]
        if len(shape) == 2:
            ways += [
                ("{}.T", lambda w: w.T),
                ("{}.t()", lambda w: w.t()),
                ("einsum({})", lambda w: torch.einsum("ij->ji", w)),
            ]
        return Weight(*self.draw.choice(ways), parameter)

    def _sliced(self, shape: Shape) -> Weight | None:
        """Some rows or columns of a parameter with more of them, or one row of a stack."""
        wide = [
            p
            for p in self.known
            if p.ndim == len(shape) and p.shape != shape and _covers(p.shape, shape)
        ]
        tall = [p for p in self.known if p.ndim == len(shape) + 1 and _covers(p.shape[1:], shape)]
        if (wide or tall) and self.chance(0.7):
            parameter = self.draw.choice([*wide, *tall])
        elif shape and self.chance(0.6):
            parameter = self.fresh((shape[0] + 1, *shape[1:]))
        else:
            parameter = self.fresh((2, *shape))
        rows = parameter.shape[parameter.ndim - len(shape) :]
        index: list[int | slice] = (
            [] if parameter.ndim == len(shape) else [self.draw.randrange(parameter.shape[0])]
        )
        for length, n in zip(shape, rows, strict=True):
            if length * 2 - 1 <= n and length > 1 and self.chance(0.3):
                index.append(slice(0, 2 * length - 1, 2))
            else:
                start = self.draw.randrange(n - length + 1)
                index.append(slice(start, start + length))
        place = tuple(index)
        return Weight("{}[" + ", ".join(map(_written, place)) + "]", lambda w: w[place], parameter)

    def _viewed(self, shape: Shape) -> Weight | None:
        size = math.prod(shape)
        fitting = [p for p in self.known if p.numel() >= size and p.shape != shape]
        if not fitting:
            return None
        parameter = self.draw.choice(fitting)
        if parameter.numel() == size:
            return Weight(f"{{}}.view{shape}", lambda w: w.reshape(shape), parameter)
        start = self.draw.randrange(parameter.numel() - size + 1)
        return Weight(
            f"{{}}.flatten()[{start}:].view{shape}",
            lambda w: w.flatten()[start : start + size].view(shape),
            parameter,
        )

    def _computed(self, shape: Shape) -> Weight | None:
        ways = [
            (text, parts, function)
            for text, make, function in COMPUTED
            if (parts := make(shape)) is not None
        ]
        text, parts, function = self.draw.choice(ways)
        made = Weight(text, function, *(self.part(part) for part in parts))
        return made if made().shape == shape else None


def _itself(w: Tensor) -> Tensor:
    return w


def _covers(large: Shape, small: Shape) -> bool:
    return all(n >= m for n, m in zip(large, small, strict=True))


def _written(place: int | slice) -> str:
    return (
        str(place)
        if isinstance(place, int)
        else f"{place.start}:{place.stop}" + (":2" if place.step else "")
    )
