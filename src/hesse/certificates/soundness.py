"""Whether double backward of the user's function is its second derivative at all; only differences
of gradients can tell.

A custom `autograd.Function` whose backward uses a detached value, ``no_grad`` or NumPy has a right
gradient and a wrong derivative of it, and so have some operations of PyTorch. Every way of
automatic differentiation then agrees on a wrong H. So, once for a model and a loss, on few samples,
in float64 where the function can be cast,

    H v  is held against  (g(θ + h v) − g(θ − h v)) / 2h        for h from 1e-4 to 1e-9 of θ.

Where the two differ at every h there are three cases. If the difference quotients forward and
backward differ as well, θ lies at a kink (ReLU, max-pooling), and nothing can be told. If g·v is
not the slope of the value either, not even nearly, the user holds a value fixed (``detach``,
``no_grad``, a derivative of their own): double backward is then the definition, as long as it is
symmetric. Otherwise H v is wrong. Where the function can be cast, what it detaches or computes
under ``no_grad`` is seen and held fixed in the differences too (`hesse.certificates.widened`), so
that a wrong backward shows beside it.
"""

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hesse.certificates.gradient_differences import (
    LAST_PLACES,
    TOLERANCE,
    CostFunction,
    NotTwiceDifferentiable,
    Quotients,
    differing,
    direction,
    dot,
    norm,
)
from hesse.certificates.reference import kept_by_gradient
from hesse.data.batch import Batch, concatenate
from hesse.errors import HesseValueError, readable_bytes
from hesse.process.circumstances import circumstances, is_passing
from hesse.process.memory import available_bytes

if TYPE_CHECKING:
    from hesse.cost import Cost

# Of all the data few are taken: every step takes two gradients, and there are up to six steps. Of
# large models fewer, as many as keep so many bytes for a gradient in float64.
_SAMPLES, _LEAST_SAMPLES = 32, 4
_KEPT = 100 * 10**6
_MOST_SIGNATURES = 8
# How often θ is held at once, in gradients, products and directions.
_COPIES = 16
# The note of a forward that rounds to half precision of its own accord.
AUTOCAST = "the forward runs under an autocast of its own, which stays as it is"
# By how much more than the last place of J a part of its second derivatives is rounded that
# cancels.
_CANCELS = 1e4
# What is held fixed being seen, a gradient so much nearer to the slope than H v is to its
# differences is a gradient, computed approximately (by a solver that runs backward), and H v is
# wrong.
_APPROXIMATE = 1e-2


@dataclass(frozen=True)
class Soundness:
    """Whether the second derivatives of a cost's function by PyTorch can be believed.

    Attributes:
        objection: why no second derivative of the function can be believed; ``None`` where nothing
            speaks against them.
        notes: for the plan and the certificate.
        lasting: whether it holds for other θ and data too.
        missing: whether PyTorch has no second derivatives of it, so that no way of computing them
            is worth trying.
    """

    objection: str | None = None
    notes: tuple[str, ...] = ()
    lasting: bool = True
    missing: bool = False


def soundness(cost: "Cost") -> Soundness:
    """Examine a cost's function, on samples of every signature of its batches, or find it
    examined."""
    verdicts = [
        _verdict(cost, signature)
        for signature in list(cost.signatures)[:_MOST_SIGNATURES] or [None]
    ]
    objection = next((each.objection for each in verdicts if each.objection is not None), None)
    notes = tuple(dict.fromkeys(note for each in verdicts for note in each.notes))
    return Soundness(objection, notes, missing=any(each.missing for each in verdicts))


def _verdict(cost: "Cost", signature: Hashable) -> Soundness:
    key = ("soundness", cost.layout, cost.dtype, signature, circumstances())
    verdict = cost.captures.get(key)
    if verdict is None or not verdict.lasting:
        verdict = cost.captures[key] = _examined(cost, signature)
    return verdict


def _some_samples(cost: "Cost", signature: Hashable) -> tuple[Batch | None, Batch | None]:
    """A few samples from all over the batches of a signature, and the first such batch whole."""
    count = cost.signatures.get(signature)
    if count is None:
        return None, None
    every = max(1, -(-count // _affordable(cost, signature)))
    first, taken, seen = None, list[Batch](), 0
    for batch in cost.batches():
        if batch is None or batch.signature != signature:
            continue
        first = first or batch
        if batch.whole:
            return batch, batch
        start = -seen % every
        if start < batch.size:
            taken.append(batch.take(slice(start, None, every)))
        seen += batch.size
    return concatenate(taken), first


def _affordable(cost: "Cost", signature: Hashable) -> int:
    """How many samples a gradient is taken of."""
    batch = next(each for each in cost.batches() if each and each.signature == signature)
    probe = batch.take(slice(0, _LEAST_SAMPLES))
    kept = kept_by_gradient(cost, probe)
    if kept is None:
        return _SAMPLES
    kept *= torch.float64.itemsize / cost.dtype.itemsize
    affordable = int(_KEPT * probe.size / max(1, kept))
    return max(_LEAST_SAMPLES, min(_SAMPLES, affordable))


def require_sound(cost: "Cost") -> tuple[str, ...]:
    """The notes of a cost whose second derivatives can be believed.

    Raises:
        HesseValueError: they cannot; says which parameter, and both numbers.
    """
    verdict = soundness(cost)
    if verdict.objection is not None:
        raise HesseValueError(verdict.objection)
    return verdict.notes


def require_twice_differentiable(cost: "Cost") -> Soundness:
    """What was found of a cost that PyTorch can differentiate twice, rightly or wrongly.

    Raises:
        HesseValueError: it cannot; says which operation has no second derivative.
    """
    verdict = soundness(cost)
    if verdict.missing and verdict.objection is not None:
        raise HesseValueError(verdict.objection)
    return verdict


def _examined(cost: "Cost", signature: Hashable) -> Soundness:
    needed = _COPIES * torch.float64.itemsize * cost.layout.size
    if needed > available_bytes(cost.device) // 2:
        return Soundness(
            notes=(f"differences of gradients were not taken: they need {readable_bytes(needed)}",),
            lasting=False,
        )
    some, batch = _some_samples(cost, signature)
    attempts = [
        (torch.float64, True, some),
        (torch.float64, True, batch),
        (cost.dtype, False, some),
        (cost.dtype, False, batch),
    ]
    error: Exception | None = None
    missing: NotTwiceDifferentiable | None = None
    for dtype, cast, samples in attempts:
        try:
            function = CostFunction(cost, samples, dtype, cast)
            return dataclasses.replace(
                _judged(function),
                lasting=function.mode is None or not function.mode.wrong_near_some_values,
            )
        except NotTwiceDifferentiable as reason:
            missing = reason
        # Of the user's code in another dtype, or on fewer samples than it was written for.
        except Exception as reason:
            if is_passing(reason):
                raise
            error = reason
    if missing is not None:
        return Soundness(str(missing), missing=True)
    return Soundness(
        notes=(f"differences of gradients could not be taken ({type(error).__name__})",)
    )


def _judged(function: CostFunction) -> Soundness:
    random = torch.Generator().manual_seed(0)
    v, u = (direction(function.theta, random) for _ in range(2))
    value, gradient = function.value_and_gradient(function.theta)
    product, other = function.hessian_vector_products(v, u)
    notes = []
    if function.mode is not None:
        if function.mode.scaled:
            return Soundness(
                "cost: it looks up an embedding with scale_grad_by_freq=True, which divides"
                " gradients by how often a token occurs: they are the derivatives of no cost, and"
                " have no Hessian; set it to False"
            )
        if function.mode.autocast:
            notes.append(AUTOCAST)
    if function.dtype != torch.float64:
        share = TOLERANCE[function.dtype]
        notes.append(
            "the function cannot be cast to float64: differences of gradients in float32 show no"
            f" error below {share:.0%}"
        )
    quotients = Quotients(function, v, value, gradient)
    wrong, kinks = differing(quotients, product)
    if function.mode is not None and function.mode.fixed:
        notes.append(
            "values that the forward detaches or computes without gradients are held fixed, as"
            " PyTorch does"
        )
    if not wrong and not kinks:
        return Soundness(notes=tuple(notes))
    gap, scale = abs(dot(u, product) - dot(v, other)), abs(dot(u, product)) + abs(dot(v, other))
    # u and v are of the size of θ, so that u·H v is of that of J where nothing cancels.
    rounding = torch.finfo(function.dtype).eps * (
        LAST_PLACES * norm(product) * norm(u) + _CANCELS * abs(value)
    )
    skew = gap > 1e-3 * scale + rounding
    off_slope = quotients.off_slope(dot(gradient, v)) if wrong else 0.0
    seen = function.mode is not None
    if off_slope and not (
        seen and off_slope <= _APPROXIMATE * max(_share(*pair) for pair in wrong.values())
    ):
        if skew:
            return Soundness(
                "cost: its second derivatives by PyTorch are not symmetric (u·H v and v·H u are"
                f" {dot(u, product):.6g} and {dot(v, other):.6g}), and its gradient is not the"
                " slope of its value: is there a custom autograd Function, or an operation, whose"
                " backward is not a derivative? It has no Hessian"
            )
        notes.append(
            "the gradient is not the slope of the value: what the forward gives a derivative of its"
            " own (a custom autograd Function) is taken by that, and what it detaches is held"
            " fixed, as PyTorch does"
        )
        return Soundness(notes=tuple(notes))
    if wrong:
        name, (ours, theirs) = next(iter(wrong.items()))
        return Soundness(
            "cost: PyTorch's second derivatives of it are wrong. Along a random v, an entry of H v"
            f" for {name!r} is {ours:.6g} by double backward and {theirs:.6g} by differences of"
            " gradients. Is there a custom autograd Function whose backward uses a detached value,"
            " no_grad or NumPy, or an operation whose second derivative PyTorch gets wrong? Write"
            " its backward in operations that can be differentiated"
        )
    if skew:
        return Soundness(
            "cost: its second derivatives by PyTorch are not symmetric at these parameters (u·H v"
            f" and v·H u are {dot(u, product):.6g} and {dot(v, other):.6g}), where its gradient"
            f" has a kink ({', '.join(kinks[:3])}): it has no Hessian there. Move the parameters"
        )
    notes.append(
        "a kink lies at these parameters, or too near"
        f" ({', '.join(kinks[:3])}{', ...' if len(kinks) > 3 else ''}): differences of gradients"
        " cannot tell whether double backward is right there"
    )
    return Soundness(notes=tuple(notes))


def _share(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / max(abs(ours), abs(theirs), torch.finfo(torch.float64).tiny)
