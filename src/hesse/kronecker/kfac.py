"""`kfac`: Kronecker-factored curvature of a cost, from the sites of its graph."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from hesse.capture import Captured, NotCaptured, capture
from hesse.cost import Cost, cost_with_curvature
from hesse.curvatures.curvature import Curvature
from hesse.curvatures.fisher import EmpiricalFisher, Fisher, SampledFisher
from hesse.curvatures.gauss_newton import GAUSS_NEWTON, GaussNewton
from hesse.errors import HesseValueError, require_flags, require_progress, require_word
from hesse.exact.hessian import hessian
from hesse.kronecker.approximation import KFAC
from hesse.kronecker.block import Block, Factor, KroneckerBlock
from hesse.kronecker.check import require_gradient
from hesse.kronecker.factors import CorrectedSums, ExactSums, FactorSums, Sums
from hesse.kronecker.layers import LARGEST_EXACT, Form, Layer, layers_of
from hesse.kronecker.signals import Passage
from hesse.kronecker.storage import Stored
from hesse.kronecker.work import ENOUGH, Work
from hesse.process.memory import allowed_memory, enough_memory
from hesse.process.progress import Progress
from hesse.process.quiet import quiet
from hesse.process.undisturbed import undisturbed
from hesse.words import CurvatureName, KroneckerKind, Sharing


@enough_memory("give less to work in with memory=, or fewer parameters with params=")
@undisturbed()
@quiet()
def kfac(
    cost: Cost,
    *,
    kind: KroneckerKind | str = "kfac",
    curvature: CurvatureName | str | Curvature = "gauss_newton",
    sharing: Sharing | str = "expand",
    joint_bias: bool = True,
    memory: int | None = None,
    progress: bool | None = None,
) -> "KFAC":
    """Gauss–Newton's matrix, or a Fisher matrix, as a Kronecker product for each layer: what can be
    multiplied with, inverted and stored where the matrix itself cannot.

    A weight W that enters as z[n,t] = W a[n,t] at positions t, and the signals δ[n,k,t] = Jᵀ r_k at
    z of the vectors r_k with Σ_k r_k r_kᵀ = ∇²ℓ, give

        expand    (Σ_nkt δ δᵀ) ⊗ (mean_nt a aᵀ)
        reduce    (Σ_nk (Σ_t δ)(Σ_t δ)ᵀ) ⊗ (mean_n ā āᵀ),  ā = mean_t a

    in the order of W's entries. Expand is Gauss–Newton's block where positions have losses of their
    own in a linear network, reduce where they are averaged; both are where there is one position.
    Whatever the module, the layers are what the captured graph shows: dense layers, convolutions of
    any kind, embeddings, attention's packed projections by the parts that are used apart, and
    recurrent layers, whose steps are positions. A weight that is used in several places is shared
    over them; where its outputs and inputs change places (an embedding that is the last layer too)
    the nearest Kronecker product of the sum is taken. What enters as a vector (a bias apart from
    its weight; scale and shift of a normalisation, together) has its exact block, or beyond 2048
    entries its exact diagonal. Blocks of different layers are zero.

    Args:
        cost: the cost. A penalty that is a number is part of the result; one that is a function has
            no factors, and is left out, as ``notes`` say.
        kind: ``"kfac"``; ``"ekfac"``, with the exact diagonal in the eigenbasis of each Kronecker
            product, which is nearer; or ``"foof"``, the inputs alone: I ⊗ mean a aᵀ.
        curvature: what is approximated: ``"gauss_newton"``, ``"fisher"``, ``"fisher_mc"``
            (`SampledFisher` says samples and seed) or ``"empirical_fisher"``.
        sharing: what is done with positions: ``"expand"`` or ``"reduce"``.
        joint_bias: whether a bias is in the block of its weight, as the weight of an input that is
            always 1.
        memory: bytes that the work may use; by default a share of what is free.
        progress: as for `hessian`.

    Raises:
        HesseTypeError: not a cost.
        HesseValueError: a cost without a prediction, one that is not captured, a loss that is not
            convex in the prediction, an unknown word, or a large parameter that enters in no linear
            way.

    Source:
        J. Martens, R. Grosse, Optimizing neural networks with Kronecker-factored approximate
        curvature (2015). R. Grosse, J. Martens, A Kronecker-factored approximate Fisher matrix for
        convolution layers (2016). R. Eschenhagen, A. Immer, R. E. Turner, F. Schneider, P. Hennig,
        Kronecker-factored approximate curvature for modern neural network architectures (2023),
        for expand and reduce. T. George and others (2018) for EKFAC. F. Benzing, Gradient descent
        on neurons and its link to approximate second-order optimization (2022), for FOOF.

    Examples:
        >>> import torch, hesse
        >>> X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1, bias=False), "half_sse", (X, torch.zeros(2, 1)))
        >>> K = hesse.kfac(cost)
        >>> K.block("weight")  # XᵀX: of one linear layer it is exact
        tensor([[10., 14.],
                [14., 20.]])
        >>> round(K.inverse(damping=1.0).trace(), 4)
        0.9143
    """
    given = cost_with_curvature(cost, curvature)
    _require_kind(given.curvature)
    for name, word, known in (
        ("kind", kind, get_args(KroneckerKind)),
        ("sharing", sharing, get_args(Sharing)),
    ):
        require_word(word, name, known)
    require_flags(joint_bias=joint_bias)
    require_progress(progress)
    budget = allowed_memory(memory, cost.device) // 2
    budget = budget if memory is not None else min(budget, ENOUGH)
    worked = given
    if isinstance(given.curvature, Fisher):
        # Gauss–Newton's matrix of the loss, or of the form that has the mean over labels.
        worked = cost_with_curvature(given.curved, GAUSS_NEWTON)
    passages = [Passage(worked, _captured(worked, signature)) for signature in worked.signatures]
    for passage, signature in zip(passages, worked.signatures, strict=True):
        require_gradient(passage, signature)
    forward_only = kind == "foof"
    layers = _layers(passages, cost, joint_bias, forward_only)
    rest = _rest(worked, passages, forward_only)
    like = torch.zeros((), dtype=cost.dtype, device=cost.device)
    sums = [_sums(layer, like, sharing == "reduce", forward_only) for layer in layers]
    work = Work(worked, passages, budget)
    steps = cost.samples * (2 if kind == "ekfac" else 1)
    with Progress("kfac", steps, progress) as bar:
        work.run(sums, bar, forward_only)
        blocks: list[Block] = [one.block() for one in sums]
        if kind == "ekfac":
            corrected = [
                CorrectedSums(layer, like, block)
                for layer, block in zip(layers, blocks, strict=True)
                if layer.form is Form.FACTORS
            ]
            work.run(corrected, bar, forward_only)
            found = iter(corrected)
            blocks = [
                next(found).block() if layer.form is Form.FACTORS else block
                for layer, block in zip(layers, blocks, strict=True)
            ]
    blocks = [*blocks, *rest]
    blocks = [*blocks, *_untouched(blocks, cost, like)]
    notes = (*worked.notes, *_notes(cost, layers, rest))
    shift = float(cost.penalty) if isinstance(cost.penalty, int | float) else 0.0
    words = {"kind": kind, "sharing": sharing, "curvature": given.curvature.name}
    stored = Stored(cost.layout, tuple(blocks), shift, words, notes)
    return KFAC(stored, given, cost.device)


def _require_kind(curvature: Curvature) -> None:
    if not isinstance(curvature, GaussNewton | Fisher | SampledFisher | EmpiricalFisher):
        raise HesseValueError(
            f"curvature: {curvature.name!r} is no sum of outer products, of which factors could be"
            " made; ask for 'gauss_newton', 'fisher', 'fisher_mc' or 'empirical_fisher'"
        )


def _captured(cost: Cost, signature: Any) -> Captured:
    try:
        captured = capture(cost, signature)
    except NotCaptured as reason:
        raise HesseValueError(
            f"cost: it has no graph whose layers could be factored: {reason}; for its curvature as"
            " it is there are hesse.operator and hesse.hessian"
        ) from reason
    if any(name not in captured.graph.node for name in captured.graph.predictions or ()):
        raise HesseValueError(
            "cost: its prediction is a parameter or an input itself, so that there is no layer to"
            " factor; hesse.hessian has its curvature"
        )
    return captured


def _layers(
    passages: Sequence[Passage], cost: Cost, joint_bias: bool, forward_only: bool
) -> list[Layer]:
    """The layers; of a cost with a single graph they are kept with it."""
    captures = [passage.captured for passage in passages]
    if len(captures) > 1:
        return layers_of(captures, cost, joint_bias, forward_only)
    return captures[0].dry_runs.kept(
        ("kronecker layers", joint_bias, forward_only),
        lambda: layers_of(captures, cost, joint_bias, forward_only),
    )


def _sums(layer: Layer, like: Tensor, reduce: bool, forward_only: bool) -> Sums:
    if layer.form is Form.FACTORS:
        return FactorSums(layer, like, reduce, forward_only)
    return ExactSums(layer, like)


def _rest(cost: Cost, passages: Sequence[Passage], forward_only: bool) -> list[Block]:
    """The exact blocks of the parameters that enter in no linear way."""
    reasons: dict[str, str] = {}
    for passage in passages:
        reasons |= passage.captured.fallbacks
    for name, reason in reasons.items():
        size = cost.layout.sizes[name]
        if size > LARGEST_EXACT or forward_only:
            raise HesseValueError(
                f"cost: {name!r} {reason}, so that it has no factors, and with {size:,} entries it"
                f" gets no exact block (at most {LARGEST_EXACT:,}, and none in FOOF): leave it out"
                " with params="
            )
    if not reasons:
        return []
    exact = hessian(
        cost.without_penalty(), curvature=cost.curvature, pairs=[(name, name) for name in reasons]
    )
    blocks: list[Block] = []
    for name in reasons:
        place = cost.layout.slice(name)
        index = torch.arange(place.start, place.stop, device=cost.device)
        left = Factor(exact.flat(name, name).unsqueeze(0))
        one = Factor(torch.ones(1, 1, dtype=cost.dtype, device=cost.device))
        blocks.append(KroneckerBlock((name,), index, (1, len(index), 1), left, one))
    return blocks


def _notes(cost: Cost, layers: Sequence[Layer], rest: Sequence[Block]) -> Iterator[str]:
    for block in rest:
        yield f"{block.names[0]!r} enters in no linear way: its block is exact"
    for layer in layers:
        named = ", ".join(map(repr, layer.names))
        if layer.form is Form.DIAGONAL:
            yield f"{named}: a vector of {len(layer.index):,} entries has its exact diagonal"
        elif layer.form is Form.EXACT and any(
            not use.is_vector for uses in layer.uses.values() for use in uses
        ):
            yield f"{named}: used in ways that share no Kronecker product; its block is exact"
        elif any(use.is_turned for uses in layer.uses.values() for use in uses):
            yield f"{named}: used both ways round; the nearest Kronecker product of the sum"
    if callable(cost.penalty):
        yield "the penalty is a function, which has no factors, and is left out"


def _untouched(blocks: Sequence[Block], cost: Cost, like: Tensor) -> list[Block]:
    """A block of zeros for the entries that the cost does not depend on, if there are any."""
    if sum(len(block.index) for block in blocks) == cost.layout.size:
        return []
    seen = torch.zeros(cost.layout.size, dtype=torch.bool, device=cost.device)
    for block in blocks:
        seen[block.index] = True
    index = (~seen).nonzero().flatten()
    names = tuple(n for n in cost.layout.names if not bool(seen[cost.layout.slice(n)].all()))
    zeros, one = Factor(like.new_zeros(1, len(index))), Factor(like.new_ones(1, 1))
    return [KroneckerBlock(names, index, (1, len(index), 1), zeros, one)]
