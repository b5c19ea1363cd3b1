"""The differentiable operations of torch's own operator database, each as a scalar function of few
entries, and points for it.

`catalogue` reads ``torch.testing._internal.common_methods_invocations.op_db``: the table of
operations, with inputs for each, that torch's own tests go over. `Problem` is one of them at one of
its inputs:

    F(z) = Σ w · op(z),    z the entries of all its floating inputs, w fixed random weights of its
    outputs
"""

import importlib.util
import sys
import types
import unittest
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor

# Operations are asked for at most so many entries; of larger ones a subspace of this dimension is
# looked at.
MOST_ENTRIES, SUBSPACE = 12, 8
# So many of an operation's inputs in the database are looked through, until so many can be used,
# and so many of those taken.
LOOKED_THROUGH, ENOUGH, TAKEN = 400, 60, 2
MATRIX = 2
INDICES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class Skipped(Exception):
    """An operation, or an input of it, that is not looked at; the text says why."""


def catalogue() -> list[Any]:
    """The entries of the operator database. Its module imports expecttest, which only torch's own
    tests use: a stand-in does."""
    if importlib.util.find_spec("expecttest") is None and "expecttest" not in sys.modules:
        stand_in = types.ModuleType("expecttest")
        vars(stand_in)["TestCase"] = unittest.TestCase
        sys.modules["expecttest"] = stand_in
    from torch.testing._internal.common_methods_invocations import op_db

    return list(op_db)


def full_name(operation: Any) -> str:
    """``max/reduction_with_dim``: one line of the database has one name."""
    return (
        f"{operation.name}/{operation.variant_test_name}"
        if operation.variant_test_name
        else operation.name
    )


@dataclass(frozen=True, eq=False)
class Problem:
    """One operation at one input of it.

    Attributes:
        name: the operation's.
        sample: which of the inputs taken, from 0.
        shapes: the shapes of the floating inputs.
        start: z, flat: the input as the database makes it.
        embedding: (N, k). Derivatives are taken in u ↦ F(z + E u) at u = 0; E is the identity where
            N is small.
        outputs: from the list of inputs to the outputs that have a derivative.
        words: how the operation was called, for the reader.
    """

    name: str
    sample: int
    shapes: tuple[torch.Size, ...]
    start: Tensor
    embedding: Tensor
    outputs: Callable[[list[Tensor]], list[Tensor]]
    words: str
    _weights: dict[int, Tensor] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether u is z itself, and not a subspace of it."""
        return self.embedding.shape[0] == self.embedding.shape[1]

    def inputs(self, z: Tensor) -> list[Tensor]:
        """The inputs that stand in z, each with memory of its own."""
        parts = z.split([shape.numel() for shape in self.shapes])
        return [part.reshape(shape).clone() for part, shape in zip(parts, self.shapes, strict=True)]

    def value(self, z: Tensor) -> Tensor:
        """F(z), a scalar; real and imaginary part of a complex output have weights of their own."""
        parts: list[Tensor] = []
        for output in self.outputs(self.inputs(z)):
            parts += [output.real, output.imag] if output.is_complex() else [output]
        terms = [
            (part * self._weight(len(parts), index, part.shape)).sum()
            for index, part in enumerate(parts)
        ]
        return torch.stack(terms).sum()

    def shifted(self, z: Tensor, u: Tensor) -> Tensor:
        """F(z + E u)."""
        return self.value(z + u if self.whole else z + self.embedding @ u)

    def _weight(self, count: int, index: int, shape: torch.Size) -> Tensor:
        known = self._weights.get(index)
        if known is None or known.shape != shape:
            generator = torch.Generator().manual_seed(100 * count + index)
            known = torch.empty(shape, dtype=torch.float64).uniform_(0.5, 1.5, generator=generator)
            self._weights[index] = known
        return known


def problems(operation: Any) -> list[Problem]:
    """One or two inputs of an operation, small ones first, called in different ways where there are
    some.

    Raises:
        Skipped: there is none that can be used.
    """
    if not operation.supports_autograd:
        raise Skipped("not differentiable")
    if torch.float64 not in operation.dtypes:
        raise Skipped("takes no float64")
    if "sparse" in operation.name:
        raise Skipped("sparse")
    reasons: dict[str, int] = {}
    found: list[Problem] = []
    for sample in _samples(operation):
        for cut in (None, 3, 2):
            try:
                problem = _problem(operation, sample, cut)
            except Skipped as reason:
                if cut is None:
                    reasons[str(reason)] = reasons.get(str(reason), 0) + 1
                continue
            except Exception as error:  # an input that was cut, and does not fit any more
                reasons[f"does not run: {type(error).__name__}"] = 1
                continue
            found.append(problem)
            if problem.whole:
                break
        if len(found) == ENOUGH:
            break
    if not found:
        raise Skipped(
            max(reasons, key=lambda reason: reasons[reason])
            if reasons
            else "no inputs in the database"
        )
    # The largest that are looked at whole, and then the smallest of the rest; what has a single
    # entry comes last.
    found.sort(
        key=lambda p: (len(p.start) == 1, not p.whole, -len(p.start) if p.whole else len(p.start))
    )
    taken = found[:1]
    rest = [p for p in found if len(p.start) > 1 and p.whole] or found
    for key in (lambda p: p.words.partition(";")[2], lambda p: p.shapes):
        others = [p for p in rest if all(key(p) != key(q) for q in taken)]
        taken += others[: TAKEN - len(taken)]
    return [replace(problem, sample=index) for index, problem in enumerate(taken)]


def _samples(operation: Any) -> Iterator[Any]:
    """The database's inputs; what is called with ``training=True`` (dropout, batch norm) also with
    False."""
    torch.manual_seed(sum(map(ord, full_name(operation))))
    made = iter(operation.sample_inputs("cpu", torch.float64, requires_grad=True))
    for _ in range(LOOKED_THROUGH):
        try:
            sample = next(made)
        except StopIteration:
            return
        except Exception:  # what the database cannot make on this machine
            return
        yield sample
        if sample.kwargs.get("training"):
            sample.kwargs = {**sample.kwargs, "training": False}
            yield sample


def _problem(operation: Any, sample: Any, cut: int | None) -> Problem:
    """The input as a problem, every axis of every tensor cut to the given length first."""
    leaves, tree = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
    places = [
        i
        for i, leaf in enumerate(leaves)
        if isinstance(leaf, Tensor) and leaf.requires_grad and leaf.is_floating_point()
    ]
    if not places:
        raise Skipped("no floating input")
    if any(isinstance(leaf, Tensor) and leaf.layout != torch.strided for leaf in leaves):
        raise Skipped("sparse")
    # An index into what was cut off would be out of bounds, which not every operation checks.
    if cut is not None and any(
        isinstance(leaf, Tensor) and leaf.dtype in INDICES for leaf in leaves
    ):
        raise Skipped("too large")
    fixed = [_cut(leaf.detach(), cut) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    start = torch.cat([fixed[i].reshape(-1) for i in places])
    if any(isinstance(leaf, Tensor) and leaf.numel() == 0 for leaf in fixed):
        raise Skipped("empty")
    if cut is not None and len(start) > MOST_ENTRIES:
        raise Skipped("too large")

    def run(inputs: list[Tensor]) -> list[Tensor]:
        # What the operation writes into (running statistics) is a copy, so that it is a function.
        mine = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in fixed]
        for i, tensor in zip(places, inputs, strict=True):
            mine[i] = tensor
        first, args, kwargs = pytree.tree_unflatten(mine, tree)
        got = operation.gradcheck_wrapper(operation.get_op(), first, *args, **kwargs)
        if sample.output_process_fn_grad is not None:
            got = sample.output_process_fn_grad(got)
        return [leaf for leaf in pytree.tree_leaves(got) if isinstance(leaf, Tensor)]

    chosen = _differentiable(run, [fixed[i] for i in places])
    return Problem(
        name=full_name(operation),
        sample=0,
        shapes=tuple(fixed[i].shape for i in places),
        start=start,
        embedding=_embedding(len(start)),
        outputs=lambda inputs: [
            output for output, wanted in zip(run(inputs), chosen, strict=True) if wanted
        ],
        words=_words(sample, cut),
    )


def _cut(tensor: Tensor, length: int | None) -> Tensor:
    if length is None:
        return tensor.clone()
    return tensor[tuple(slice(0, length) for _ in tensor.shape)].clone(
        memory_format=torch.contiguous_format
    )


def _embedding(size: int) -> Tensor:
    if size <= MOST_ENTRIES:
        return torch.eye(size, dtype=torch.float64)
    return (
        torch.randn(
            size, SUBSPACE, dtype=torch.float64, generator=torch.Generator().manual_seed(size)
        )
        / SUBSPACE**0.5
    )


def _words(sample: Any, cut: int | None) -> str:
    """The call, with a shape for every tensor."""

    def word(leaf: Any) -> str:
        return (
            f"{'×'.join(map(str, _cut(leaf, cut).shape)) or 'scalar'}"
            if isinstance(leaf, Tensor)
            else repr(leaf)[:40]
        )

    parts = [", ".join(map(word, pytree.tree_leaves(sample.input)))]
    parts += [", ".join(map(word, pytree.tree_leaves(argument))) for argument in sample.args]
    parts += [
        f"{name}={', '.join(map(word, pytree.tree_leaves(value)))}"
        for name, value in sample.kwargs.items()
    ]
    return "; ".join(part for part in parts if part)


def _differentiable(
    run: Callable[[list[Tensor]], list[Tensor]], inputs: list[Tensor]
) -> list[bool]:
    """Which outputs have a derivative, of a function of its inputs alone, in float64.

    Raises:
        Skipped: none has, or it is not such a function.
    """
    if _random(run, inputs):
        raise Skipped("random")
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    outputs = run(leaves)
    chosen = [output for output in outputs if output.requires_grad]
    if any(output.layout != torch.strided for output in chosen):
        raise Skipped("sparse")
    if any(output.dtype not in (torch.float64, torch.complex128) for output in chosen):
        raise Skipped("computes in another precision")
    total = sum(output.abs().sum() for output in chosen)
    if not isinstance(total, Tensor) or not any(output.numel() for output in chosen):
        raise Skipped("its outputs have no derivative")
    if all(part is None for part in torch.autograd.grad(total, leaves, allow_unused=True)):
        raise Skipped("its outputs have no derivative")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in [*inputs, *chosen]):
        raise Skipped("not finite")
    return [output.requires_grad for output in outputs]


def _random(run: Callable[[list[Tensor]], list[Tensor]], inputs: list[Tensor]) -> bool:
    """Whether an operation draws numbers, with a seed of the database's own or without: vmap says
    so."""

    def mapped(shift: Tensor) -> Tensor:
        run([tensor + shift for tensor in inputs])
        return shift

    try:
        torch.vmap(mapped, randomness="error")(torch.zeros(1, dtype=torch.float64))
    except Exception as error:
        return "random operation" in str(error) or "aten::rrelu" in str(error)
    return False


def points(problem: Problem) -> dict[str, Tensor]:
    """The generic point and, for the first input of an operation, special ones. Each differs from
    those before it."""
    start = problem.start
    found = {"generic": start}
    if problem.sample:
        return found
    made: dict[str, Tensor] = {
        "zeros": torch.zeros_like(start),
        "ones": torch.ones_like(start),
        "equal entries": torch.full_like(start, 0.7),
        "pairs of equal entries": start[torch.arange(len(start)) // 2 * 2],
        "× 1e-4": start * 1e-4,
        "× 1e-8": start * 1e-8,
        "× 1e3": start * 1e3,
        "identity": _each(problem, _identity),
        "a zero row": _each(problem, _zero_row),
        "equal rows": _each(problem, _equal_rows),
    }
    if len(problem.shapes) > 1:
        made["first input zero"] = start * (torch.arange(len(start)) >= problem.shapes[0].numel())
    for name, z in made.items():
        if not any(torch.equal(z, other) for other in found.values()):
            found[name] = z
    return found


def _each(problem: Problem, change: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([change(tensor).reshape(-1) for tensor in problem.inputs(problem.start)])


def _identity(tensor: Tensor) -> Tensor:
    """Ones on the diagonal of every matrix: its singular values are equal."""
    if tensor.dim() < MATRIX or min(tensor.shape[-2:]) < MATRIX:
        return tensor
    return torch.eye(*tensor.shape[-2:], dtype=tensor.dtype).expand_as(tensor)


def _zero_row(tensor: Tensor) -> Tensor:
    """The last row of every matrix zero, or the last entry of a vector."""
    if tensor.dim() == 0:
        return tensor
    changed = tensor.clone()
    changed[(..., -1, slice(None)) if tensor.dim() >= MATRIX else -1] = 0.0
    return changed


def _equal_rows(tensor: Tensor) -> Tensor:
    return tensor[..., :1, :].expand_as(tensor) if tensor.dim() >= MATRIX else tensor


def take(names: list[str]) -> dict[str, Any]:
    """The operations whose names contain one of the given parts, or all; of two of one name the one
    that has a derivative."""
    found: dict[str, Any] = {}
    for operation in catalogue():
        name = full_name(operation)
        if (not names or any(part in name for part in names)) and not (
            name in found and found[name].supports_autograd
        ):
            found[name] = operation
    return found
