"""Functions of each entry: what calculus calls elementary, and activations.

The numbers need no more than that they act entry by entry: f' and f'' come from differentiating Σ
f(x) once and twice, for all samples at once. Formulas have the derivatives as a person would write
them; of a function without, f' and f'' stay symbols.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from hesse.derivation.calculus.algebra import add, scale
from hesse.derivation.sources.networks.view import View, number
from hesse.graph.graph import Node, Ref
from hesse.operations.positions import along_all
from hesse.operations.record import Function, Operation, Shapes, Structure

if TYPE_CHECKING:
    from hesse.derivation.sources.networks.call import Call


def formula(call: "Call") -> "View | None":
    """f of an entry: by its name where the call has the options of the record, else a function of
    its own."""
    first, *options = call.node.args
    given = (*options, *call.node.kwargs.values())
    if any(isinstance(option, Ref) for option in given):
        return None
    # By name only with the options that the record's derivatives are of.
    known = call.record.function
    if known is not None and given == known.options[: len(given)]:
        return call.build.apply(call.record.name, call.operand(first))
    variant = call.variant((tuple(options), tuple(call.node.kwargs.items())))
    return call.build.apply(variant, call.operand(first), _OfOneInput(call.node))


# A class, for a function within a function could not be pickled.
@dataclass(frozen=True, eq=False)
class _OfOneInput:
    """A node of one input as a function of it."""

    node: Node

    def __call__(self, z: Tensor) -> Tensor:
        (name,) = self.node.inputs
        return self.node.evaluate({name: z})


def clamped(call: "Call") -> "View | None":
    """Between two numbers: low + relu(z − low) − relu(z − high)."""
    upper = call.record.name == "clamp_max"
    z, *bounds = call.arguments(("self", None), ("max" if upper else "min", None), ("max", None))
    low, high = (None, bounds[0]) if upper else bounds
    if any(isinstance(bound, Ref) for bound in (low, high)):
        return None
    view = call.build.settled(call.operand(z))
    value = view.expression if low is None else number(low)
    for bound, sign in ((low, 1), (high, -1)):
        if bound is not None:
            above = View(add(view.expression, number(-bound)), view.axes)
            value = add(value, scale(call.build.apply("relu", above).expression, sign))
    return View(value, view.axes)


def entrywise(
    name: str, aten: str, function: Function | None = None, flat: bool = False
) -> Operation:
    """The record of a function of each entry; ``flat`` where f'' is zero wherever it exists."""
    structure = Structure.ELEMENTWISE | (Structure.FLAT if flat else Structure.NONE)
    return Operation(
        name=name,
        aten=aten,
        structure=structure,
        positions=along_all,
        formula=formula,
        function=function,
    )


def _rrelu(node: Node, shapes: Shapes) -> list[Node]:
    """A leaky ReLU of the mean slope; in training every entry has a slope of its own, by chance."""
    x, lower, upper, training, *_ = node.arguments(None, 1 / 8, 1 / 3, False)
    if training or node.kwargs:
        return [node]
    return [
        Node(node.name, torch.ops.aten.leaky_relu.default, (x, (lower + upper) / 2), {}, node.shape)
    ]


def _lgamma(z: Tensor) -> Tensor:
    """log|Γ(z)|, with derivatives by Γ(z + 1) = z Γ(z): where z is large PyTorch's trigamma, which
    is the second one, has all its digits; at 1/5 it has ten."""
    # log|u| as log(u²)/2: to differentiate |u| twice takes PyTorch's compiler.
    shifted = torch.lgamma(z + _STEPS) - sum(torch.log((z + k) ** 2) / 2 for k in range(_STEPS))
    return torch.lgamma(z).detach() + (shifted - shifted.detach())


def _digamma(z: Tensor) -> Tensor:
    """ψ(z) by ψ(z + 1) = ψ(z) + 1/z, likewise."""
    return torch.digamma(z + _STEPS) - sum(1 / (z + k) for k in range(_STEPS))


def _trigamma(z: Tensor) -> Tensor:
    """ψ′(z) by ψ′(z + 1) = ψ′(z) − 1/z², likewise."""
    return torch.special.polygamma(1, z + _STEPS) + sum((z + k) ** -2 for k in range(_STEPS))


_STEPS = 20
_POSITIVE = (0, math.inf)
_PHI = 0.3989422804014327  # 1/√(2π)
_SIGMOID = "numpy.exp(-numpy.logaddexp(0, -z))"  # no overflow at either end
_KINK = "where the argument is not zero"
_CORNERS = "where the argument is at no corner"

# fmt: off
_ELEMENTARY = [
    entrywise("exp", "exp", Function(
        range=_POSITIVE,
        value=torch.exp, derivatives=("a", "a"), at_once=True, numpy="numpy.exp(z)",
        torch="torch.exp(z)", latex=r"\exp")),
    entrywise("log", "log", Function(
        value=torch.log, derivatives=("1/z", "-1/z**2"), at_once=True, numpy="numpy.log(z)",
        torch="torch.log(z)", latex=r"\log")),
    entrywise("sin", "sin", Function(
        range=(-1, 1),
        value=torch.sin, derivatives=("cos(z)", "-a"), at_once=True, numpy="numpy.sin(z)",
        torch="torch.sin(z)", latex=r"\sin")),
    entrywise("cos", "cos", Function(
        range=(-1, 1),
        value=torch.cos, derivatives=("-sin(z)", "-a"), at_once=True, numpy="numpy.cos(z)",
        torch="torch.cos(z)", latex=r"\cos")),
    entrywise("tan", "tan", Function(
        value=torch.tan, derivatives=("1 + a**2", "2*a*(1 + a**2)"), numpy="numpy.tan(z)",
        torch="torch.tan(z)", latex=r"\tan")),
    entrywise("sinh", "sinh", Function(
        value=torch.sinh, derivatives=("cosh(z)", "a"), at_once=True, numpy="numpy.sinh(z)",
        torch="torch.sinh(z)", latex=r"\sinh")),
    entrywise("cosh", "cosh", Function(
        range=(1, math.inf),
        value=torch.cosh, derivatives=("sinh(z)", "a"), at_once=True, numpy="numpy.cosh(z)",
        torch="torch.cosh(z)", latex=r"\cosh")),
    entrywise("atan", "atan", Function(
        range=(-math.pi / 2, math.pi / 2),
        value=torch.atan, derivatives=("1/(1 + z**2)", "-2*z/(1 + z**2)**2"),
        numpy="numpy.arctan(z)", torch="torch.atan(z)", latex=r"\arctan")),
    entrywise("atanh", "atanh", Function(
        value=torch.atanh, derivatives=("1/(1 - z**2)", "2*z/(1 - z**2)**2"),
        numpy="numpy.arctanh(z)", torch="torch.atanh(z)")),
    entrywise("asinh", "asinh", Function(
        value=torch.asinh, derivatives=("(1 + z**2)**(-1/2)", "-z*(1 + z**2)**(-3/2)"),
        numpy="numpy.arcsinh(z)", torch="torch.asinh(z)")),
    entrywise("expm1", "expm1", Function(
        range=(-1, math.inf),
        value=torch.expm1, derivatives=("exp(z)", "exp(z)"), at_once=True, numpy="numpy.expm1(z)",
        torch="torch.expm1(z)")),
    entrywise("log1p", "log1p", Function(
        value=torch.log1p, derivatives=("1/(1 + z)", "-1/(1 + z)**2"), at_once=True,
        numpy="numpy.log1p(z)", torch="torch.log1p(z)")),
    entrywise("logit", "logit", Function(
        value=torch.logit, derivatives=("1/(z*(1 - z))", "(2*z - 1)/(z*(1 - z))**2"),
        numpy="scipy.special.logit(z)", torch="torch.logit(z)")),
    # Not torch.abs: differentiating it twice makes torch load its compiler, for seconds.
    entrywise("abs", "abs", Function(
        range=_POSITIVE,
        value=lambda z: torch.where(z < 0, -z, z), derivatives=("sign(z)", "0"), at_once=True,
        kink=_KINK, numpy="numpy.abs(z)", torch="torch.abs(z)"), flat=True),
    entrywise("erf", "erf special_erf", Function(
        range=(-1, 1),
        value=torch.erf, derivatives=("2*2**(1/2)*normpdf(2**(1/2)*z)",
        "-4*2**(1/2)*z*normpdf(2**(1/2)*z)"), at_once=True, numpy="scipy.special.erf(z)",
        torch="torch.special.erf(z)")),
    entrywise("normcdf", "special_ndtr", Function(
        range=(0, 1),
        value=torch.special.ndtr, derivatives=("normpdf(z)", "-z*normpdf(z)"), at_once=True,
        numpy="scipy.special.ndtr(z)", torch="torch.special.ndtr(z)", letter="Φ",
        latex=r"\Phi")),
    entrywise("normpdf", "", Function(
        range=(0, 1),
        value=lambda z: _PHI * torch.exp(-z * z / 2), derivatives=("-z*a", "(z**2 - 1)*a"),
        at_once=True, numpy="numpy.exp(-z**2 / 2) / math.sqrt(2 * math.pi)",
        torch="torch.exp(-z**2 / 2) / math.sqrt(2 * math.pi)", letter="φ", latex=r"\varphi")),
    entrywise("step", "", Function(
        range=(0, 1),
        value=lambda z: (z > 0).to(z.dtype), derivatives=("0", "0"), at_once=True, kink=_KINK,
        numpy="numpy.heaviside(z, 0)",
        torch="torch.heaviside(z, torch.zeros_like(z))")),
    entrywise("asin", "asin", Function(
        range=(-math.pi / 2, math.pi / 2), value=torch.asin,
        derivatives=("(1 - z**2)**(-1/2)", "z*(1 - z**2)**(-3/2)"), numpy="numpy.arcsin(z)",
        torch="torch.asin(z)")),
    entrywise("acos", "acos", Function(
        range=(0, math.pi), value=torch.acos,
        derivatives=("-(1 - z**2)**(-1/2)", "-z*(1 - z**2)**(-3/2)"), numpy="numpy.arccos(z)",
        torch="torch.acos(z)")),
    entrywise("acosh", "acosh", Function(
        range=_POSITIVE, value=torch.acosh,
        derivatives=("(z**2 - 1)**(-1/2)", "-z*(z**2 - 1)**(-3/2)"), numpy="numpy.arccosh(z)",
        torch="torch.acosh(z)")),
    entrywise("erfc", "erfc", Function(
        range=(0, 2), value=torch.erfc, derivatives=("-2*2**(1/2)*normpdf(2**(1/2)*z)",
        "4*2**(1/2)*z*normpdf(2**(1/2)*z)"), at_once=True, numpy="scipy.special.erfc(z)",
        torch="torch.special.erfc(z)")),
    entrywise("lgamma", "lgamma special_gammaln", Function(
        value=_lgamma, derivatives=("digamma(z)", "trigamma(z)"), at_once=True,
        numpy="scipy.special.gammaln(z)", torch="torch.lgamma(z)", latex=r"\log\Gamma")),
    entrywise("digamma", "digamma special_digamma", Function(
        value=_digamma, derivatives=("trigamma(z)", "tetragamma(z)"), at_once=True,
        numpy="scipy.special.digamma(z)", torch="torch.digamma(z)", letter="ψ", latex=r"\psi")),
    # No formula ends this row of functions: the last of them have no derivatives here.
    *(entrywise(name, "", Function(
        value=value, derivatives=derivatives, at_once=True,
        range=_POSITIVE if order % 2 else (-math.inf, 0),
        numpy=f"scipy.special.polygamma({order}, z)",
        torch=f"torch.special.polygamma({order}, z)" if order > 1 else "torch.special.zeta(2, z)",
        letter="ψ" + "′" * order, latex=r"\psi" + "'" * order))
      for order, name, value, derivatives in (
        (1, "trigamma", _trigamma, ("tetragamma(z)", "pentagamma(z)")),
        (2, "tetragamma", partial(torch.special.polygamma, 2), ("pentagamma(z)",)),
        (3, "pentagamma", partial(torch.special.polygamma, 3), ()))),
    Operation(name="sign", aten="sign", structure=Structure.STEP, function=Function(
        range=(-1, 1),
        value=torch.sign, derivatives=("0", "0"), at_once=True, kink=_KINK, numpy="numpy.sign(z)",
        torch="torch.sign(z)")),
    *(entrywise(name, name) for name in (
        "erfinv", "exp2", "i0", "log10", "log2", "sinc", "special_log_ndtr")),
]

_ACTIVATIONS = [
    entrywise("relu", "relu", Function(
        range=_POSITIVE,
        value=torch.relu, derivatives=("step(z)", "0"), kink=_KINK, numpy="numpy.maximum(z, 0)",
        torch="torch.relu(z)"), flat=True),
    entrywise("tanh", "tanh", Function(
        range=(-1, 1),
        value=torch.tanh, derivatives=("1 - a**2", "-2*a*(1 - a**2)"), numpy="numpy.tanh(z)",
        torch="torch.tanh(z)", latex=r"\tanh")),
    entrywise("sigmoid", "sigmoid", Function(
        range=(0, 1),
        value=torch.sigmoid, derivatives=("a*(1 - a)", "a*(1 - a)*(1 - 2*a)"), numpy=_SIGMOID,
        torch="torch.sigmoid(z)", letter="σ", latex=r"\sigma")),
    entrywise("log_sigmoid", "log_sigmoid", Function(
        range=(-math.inf, 0),
        value=F.logsigmoid, derivatives=("1 - sigmoid(z)", "-sigmoid(z)*(1 - sigmoid(z))"),
        word=False, numpy="-numpy.logaddexp(0, -z)", torch="torch.nn.functional.logsigmoid(z)")),
    entrywise("softplus", "softplus", Function(
        range=_POSITIVE,
        value=lambda z: F.softplus(z, threshold=1e9), derivatives=("sigmoid(z)",
        "sigmoid(z)*(1 - sigmoid(z))"), numpy="numpy.logaddexp(0, z)",
        torch="torch.logaddexp(z, torch.zeros_like(z))", options=(1, 20))),
    entrywise("silu", "silu", Function(
        value=lambda z: z * torch.sigmoid(z),
        derivatives=("sigmoid(z)*(1 + z*(1 - sigmoid(z)))",
        "sigmoid(z)*(1 - sigmoid(z))*(2 + z*(1 - 2*sigmoid(z)))"), numpy=f"z * {_SIGMOID}",
        torch="z * torch.sigmoid(z)")),
    entrywise("gelu", "gelu", Function(
        value=lambda z: z * torch.special.ndtr(z), derivatives=("normcdf(z) + z*normpdf(z)",
        "(2 - z**2)*normpdf(z)"), numpy="z * scipy.special.ndtr(z)",
        torch="z * torch.special.ndtr(z)", options=("none",))),
    # One function by its usual options, two families of them.
    *(entrywise(name, name, Function(
        value=getattr(F, name), derivatives=("step(z) + (1 - step(z))*(1 + a)",
        "(1 - step(z))*(1 + a)"), kink=_KINK, word=False,
        numpy="numpy.maximum(z, 0) + numpy.expm1(numpy.minimum(z, 0))",
        torch=f"torch.nn.functional.{name}(z)", options=options))
      for name, options in (("elu", (1, 1, 1)), ("celu", (1,)))),
    entrywise("leaky_relu", "leaky_relu", Function(
        value=F.leaky_relu, derivatives=("step(z) + (1 - step(z))/100", "0"), kink=_KINK,
        word=False, numpy="numpy.maximum(z, 0) + numpy.minimum(z, 0) / 100",
        torch="torch.nn.functional.leaky_relu(z)", options=(0.01,)), flat=True),
    entrywise("relu6", "relu6", Function(
        range=(0, 6),
        value=F.relu6, derivatives=("step(z)*step(6 - z)", "0"), kink=_CORNERS, word=False,
        numpy="numpy.clip(z, 0, 6)", torch="torch.nn.functional.relu6(z)"), flat=True),
    entrywise("hardtanh", "hardtanh", Function(
        range=(-1, 1),
        value=F.hardtanh, derivatives=("step(z + 1)*step(1 - z)", "0"), kink=_CORNERS, word=False,
        numpy="numpy.clip(z, -1, 1)", torch="torch.nn.functional.hardtanh(z)", options=(-1, 1)),
        flat=True),
    entrywise("hardsigmoid", "hardsigmoid", Function(
        range=(0, 1),
        value=lambda z: (z / 6 + 1 / 2).clamp(0, 1), derivatives=("step(z + 3)*step(3 - z)/6", "0"),
        kink=_CORNERS, word=False, numpy="numpy.clip(z / 6 + 1 / 2, 0, 1)",
        torch="torch.nn.functional.hardsigmoid(z)"), flat=True),
    entrywise("hardswish", "hardswish", Function(
        value=F.hardswish, kink=_CORNERS, word=False,
        derivatives=("step(z - 3) + step(z + 3)*step(3 - z)*(2*z + 3)/6",
        "step(z + 3)*step(3 - z)/3"), numpy="z * numpy.clip(z / 6 + 1 / 2, 0, 1)",
        torch="torch.nn.functional.hardswish(z)")),
    entrywise("hardshrink", "hardshrink", Function(
        value=F.hardshrink, derivatives=("step(z - 1/2) + step(-z - 1/2)", "0"), kink=_CORNERS,
        word=False, numpy="z * numpy.heaviside(numpy.abs(z) - 1 / 2, 0)",
        torch="torch.nn.functional.hardshrink(z)", options=(0.5,)), flat=True),
    entrywise("softshrink", "softshrink", Function(
        value=F.softshrink, derivatives=("step(z - 1/2) + step(-z - 1/2)", "0"), kink=_CORNERS,
        word=False, numpy="z - numpy.clip(z, -1 / 2, 1 / 2)",
        torch="torch.nn.functional.softshrink(z)", options=(0.5,)), flat=True),
    *(entrywise(name, name) for name in ("selu", "mish")),
    entrywise("threshold", "threshold", flat=True),
    *(replace(entrywise(name, name, flat=True), formula=clamped)
      for name in ("clamp", "clamp_min", "clamp_max")),
    Operation(name="rrelu", aten="rrelu", rewrite=_rrelu),
]
# fmt: on

RECORDS = [*_ELEMENTARY, *_ACTIVATIONS]
