"""Captured costs as programs: one sample's value and slopes are those of the user's own model."""

import re
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hesse
from cases import CASES, Case, cost_of
from hesse.derivation.calculus.differentiation import with_companions
from hesse.derivation.calculus.expression import (
    Entry,
    Expression,
    Index,
    Partial,
    Power,
    constant,
    indices,
    of,
)
from hesse.derivation.calculus.normal_form import same
from hesse.derivation.calculus.program import ArrayCall, BlackBox, Program, Quantity
from hesse.derivation.check.valuation import Valuation, relative
from hesse.derivation.lines.adjoints import adjoints
from hesse.derivation.sources.networks.conditions import Affine
from hesse.derivation.sources.networks.graph import program_of
from hesse.derivation.sources.networks.graph_program import GraphProgram
from hesse.derivation.sources.networks.view import number
from hesse.errors import HesseMemoryError, HesseValueError
from networks import Lambda

CAPTURED = [case for case in CASES if case.captured]


def agrees(cost: hesse.Cost) -> GraphProgram:
    """The program's value and slopes on the first two samples, beside the user's function and
    autograd."""
    found = program_of(cost)
    first = adjoints(with_companions(found.program), found.parameters)
    batch = next(iter(cost.batches()))
    assert batch is not None
    for place, arrays in enumerate(found.samples(min(2, batch.size))):
        at = Valuation(first.program, arrays, found.functions)
        moving = {name: value.clone().requires_grad_() for name, value in cost.parameters.items()}
        loss = cost.total(moving, batch.take(slice(place, place + 1))).reshape(())
        slopes = torch.autograd.grad(loss, list(moving.values()), allow_unused=True)
        assert relative(at.value("J").reshape(1), loss.detach().reshape(1)) < 1e-12
        for name, slope in zip(moving, slopes, strict=True):
            expected = torch.zeros_like(moving[name]) if slope is None else slope
            assert (
                relative(at.array(first.slope(name), first.entries[name].indices), expected) < 1e-11
            ), name
    return found


@pytest.mark.some(of=3)
@pytest.mark.parametrize("case", CAPTURED, ids=str)
def test_every_captured_case(case: Case) -> None:
    found = agrees(cost_of(case))
    assert found.parameters == tuple(cost_of(case).parameters)
    for quantity in found.program.quantities:
        consistent(found.program, quantity)


def consistent(program: Program, quantity: Quantity) -> None:
    """No index is free on the right that is not on the left, and every entry has as many indices as
    its array has axes."""
    assert len(set(quantity.indices)) == len(quantity.indices)
    if isinstance(quantity.definition, Expression):
        assert set(indices(quantity.definition)) <= set(quantity.indices)
        assert not any(
            index.name.startswith("*") for term in quantity.definition.terms for index in term.bound
        )
        for term in quantity.definition.terms:
            for factor in term.factors:
                if isinstance(factor, Entry):
                    assert tuple(index.size for index in factor.indices) == tuple(
                        program.shape(factor.name)
                    )


# ---------------------------------------- operations that the table of cases has not


def line(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


MORE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "padded average": (
        lambda: line(
            nn.Conv2d(1, 2, 3), nn.Tanh(), nn.AvgPool2d(2, 2, 1), nn.Flatten(), nn.Linear(18, 2)
        ),
        (1, 6, 6),
    ),
    "average without padding": (
        lambda: line(
            nn.Conv2d(1, 2, 3),
            nn.AvgPool2d(2, 2, 1, count_include_pad=False),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(18, 2),
        ),
        (1, 6, 6),
    ),
    "adaptive average": (
        lambda: line(
            nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(18, 2)
        ),
        (1, 6, 6),
    ),
    "transposed convolution": (
        lambda: line(
            nn.ConvTranspose2d(2, 3, 3, 2, 1, output_padding=1),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(108, 2),
        ),
        (2, 3, 3),
    ),
    "transposed with groups": (
        lambda: line(
            nn.ConvTranspose1d(4, 6, 3, 2, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(42, 2)
        ),
        (4, 3),
    ),
    "volumes": (
        lambda: line(nn.Conv3d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(16, 2)),
        (1, 3, 3, 3),
    ),
    "padding": (
        lambda: line(
            nn.Conv1d(1, 2, 2), nn.ReflectionPad1d(1), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)
        ),
        (1, 3),
    ),
    "padding with twos": (
        lambda: line(
            nn.Conv1d(1, 2, 2), nn.ConstantPad1d(1, 2.0), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)
        ),
        (1, 3),
    ),
    "upsampling": (
        lambda: line(
            nn.Conv2d(1, 2, 2),
            nn.Upsample(scale_factor=2),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(32, 2),
        ),
        (1, 3, 3),
    ),
    "functions": (
        lambda: line(
            *(
                nn.Linear(3, 3),
                nn.ELU(),
                nn.LeakyReLU(0.1),
                nn.LeakyReLU(0.3),
                nn.Mish(),
                nn.Linear(3, 3),
                nn.Hardtanh(),
            ),
            *(
                nn.Softsign(),
                nn.GELU("tanh"),
                nn.Softplus(2.0),
                nn.LogSigmoid(),
                nn.Tanhshrink(),
                nn.Linear(3, 2),
            ),
        ),
        (3,),
    ),
    "softmax over tokens": (
        lambda: Lambda(
            lambda m, x: m[1](torch.softmax(m[0](x), 1) * x).mean(1),
            nn.Linear(3, 3),
            nn.Linear(3, 2),
        ),
        (4, 3),
    ),
    "gated linear unit": (lambda: line(nn.Linear(3, 8), nn.GLU(), nn.Linear(4, 2)), (3,)),
    "largest": (
        lambda: Lambda(lambda m, x: m[1](m[0](x).max(1)[0]), nn.Linear(3, 4), nn.Linear(4, 2)),
        (5, 3),
    ),
    "deviation": (
        lambda: Lambda(
            lambda m, x: m[1](m[0](x) / m[0](x).std(1, keepdim=True)),
            nn.Linear(3, 4),
            nn.Linear(4, 2),
        ),
        (3,),
    ),
    "unit length": (
        lambda: Lambda(
            lambda m, x: m[1](F.normalize(m[0](x), dim=1)), nn.Linear(3, 4), nn.Linear(4, 2)
        ),
        (3,),
    ),
    "choice": (
        lambda: Lambda(
            lambda m, x: torch.where(m[0](x) >= 0.1, m[0](x).clamp(-1, 1), m[1](x) ** 3),
            nn.Linear(3, 2),
            nn.Linear(3, 2),
        ),
        (3,),
    ),
    "einsum": (
        lambda: Lambda(
            lambda m, x: torch.einsum("bti,btj->bij", m[0](x), x).flatten(1)[:, 1:3],
            nn.Linear(3, 4),
        ),
        (5, 3),
    ),
    "roll and flip": (
        lambda: Lambda(
            lambda m, x: m[1](m[0](x).roll(1, 1).flip(2)).mean(1), nn.Linear(3, 4), nn.Linear(4, 2)
        ),
        (5, 3),
    ),
    "shuffled pixels": (
        lambda: Lambda(
            lambda m, x: F.pixel_shuffle(m[0](x), 2).tanh().flatten(1)[:, 5:7], nn.Conv2d(1, 4, 2)
        ),
        (1, 3, 3),
    ),
    "root mean square": (lambda: line(nn.Linear(3, 4), nn.RMSNorm(4), nn.Linear(4, 2)), (3,)),
    "pieces": (
        lambda: Lambda(
            lambda m, x: m[1](torch.stack([t.tanh() for t in m[0](x).chunk(2, 1)], 1).flatten(1)),
            nn.Linear(3, 4),
            nn.Linear(4, 2),
        ),
        (3,),
    ),
}


def cost(model: nn.Module, *shape: int) -> hesse.Cost:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    model = model.double().eval()
    y = torch.randn(model(x).shape, generator=generator, dtype=torch.float64)
    return hesse.Cost(model, "half_sse", (x, y))


@pytest.mark.parametrize("name", MORE)
def test_more_operations(name: str) -> None:
    make, shape = MORE[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        agrees(cost(make(), *shape))


def test_a_padding_word_has_a_value_and_no_derivative() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(4, 3, padding_idx=1), nn.Flatten(), nn.Linear(6, 2)).double()
    with torch.no_grad():
        model[0].weight[1] = 1.0  # pyright: ignore[reportIndexIssue]
    agrees(
        hesse.Cost(
            model,
            "half_sse",
            (torch.tensor([[1, 2], [3, 1]]), torch.zeros(2, 2, dtype=torch.float64)),
        )
    )


# ---------------------------------------------------------------- how it reads


def names(found: GraphProgram) -> list[str]:
    return [quantity.name for quantity in found.program.quantities]


def definition(found: GraphProgram, name: str) -> Expression:
    value = found.program.by_name[name].definition
    assert isinstance(value, Expression)
    return value


def shown(found: GraphProgram) -> list[str]:
    return [leaf.shown for leaf in found.program.leaves.values() if leaf.shown]


def test_layers_give_their_names() -> None:
    found = program_of(cost(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), 2))
    assert names(found) == ["z(0)", "a(0)", "z(2)", "J"]
    assert [q.role for q in found.program.quantities] == [
        "preactivation",
        "activation",
        "preactivation",
        "cost",
    ]


def test_convolution_is_a_sum_over_places_that_agree() -> None:
    found = program_of(
        cost(nn.Sequential(nn.Conv1d(1, 2, 3, stride=2, padding=1), nn.Tanh(), nn.Flatten()), 1, 6)
    )
    assert shown(found)[0] == "[{0} = 2{1} + {2} − 1]"
    assert names(found) == ["z(0)", "a(0)", "J"]


def test_a_normalisation_takes_the_name_of_its_layer() -> None:
    found = program_of(cost(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1)), 2))
    assert names(found) == ["z(0)", "μ(1)", "c(1)", "v(1)", "n(1)", "z(1)", "z(2)", "J"]


def test_heads_of_attention_are_one_condition_each() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 3, 0.0, batch_first=True)
    found = program_of(cost(layer, 3, 4))
    conditions = shown(found)
    assert {"[{0} = 2{1} + {2}]", "[{0} = 2{1} + {2} + 4]", "[{0} = 2{1} + {2} + 8]"} <= set(
        conditions
    )
    softmaxes = [
        q
        for q in found.program.quantities
        if isinstance(q.definition, ArrayCall) and q.definition.operation == "softmax"
    ]
    assert len(softmaxes) == 1 and len(softmaxes[0].indices) == 3


def test_embedding_is_one_hot() -> None:
    model = nn.Sequential(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(6, 2)).double()
    found = program_of(
        hesse.Cost(model, "half_sse", (torch.tensor([[1, 2, 4]]), torch.zeros(1, 2).double()))
    )
    leaf = found.program.leaves["onehot(x)"]
    assert (leaf.sizes, leaf.sums_to, leaf.per_sample, leaf.shown) == (
        (3, 5),
        1,
        True,
        "[{1} = x_{0}]",
    )
    (arrays,) = found.samples(5)
    assert arrays["onehot(x)"].argmax(1).tolist() == [1, 2, 4]


def test_one_hot_targets_add_to_one_and_ignored_ones_do_not() -> None:
    data = torch.zeros(2, 3).double()
    plain = program_of(
        hesse.Cost(nn.Linear(3, 4).double(), "cross_entropy", (data, torch.tensor([1, 2])))
    )
    assert plain.program.leaves["y"].sums_to == 1
    some = program_of(
        hesse.Cost(nn.Linear(3, 4).double(), "cross_entropy", (data, torch.tensor([1, -100])))
    )
    assert some.program.leaves["y"].sums_to is None


def test_an_operation_without_a_formula_is_a_named_map() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten())
    found = agrees(cost(model, 1, 5, 5))
    pool = found.program.by_name["max_pool2d(a(0))"]
    assert (
        isinstance(pool.definition, BlackBox)
        and pool.definition.arguments == ("a(0)",)
        and not pool.definition.curved
    )
    program = with_companions(found.program)
    slope = program.by_name["∂max_pool2d(a(0))/∂a(0)"]
    # A largest entry moves with the places it is chosen from and has no second derivative: no more
    # symbols.
    assert not any(name.startswith("∂∂") for name in program.by_name)
    at = Valuation(program, next(found.samples(1)), found.functions)
    by = Entry(
        "a(0)", tuple(Index(f"by{k}", int(size)) for k, size in enumerate(program.shape("a(0)")))
    )
    apart = of(Partial(Entry(pool.name, pool.indices), (by,)))
    assert torch.equal(at.array(apart, (*pool.indices, *by.indices)), at.value(slope.name))


def test_second_derivatives_of_a_named_map_are_symbols_too() -> None:
    model = Lambda(lambda m, x: m[0](x).cumprod(1), nn.Linear(2, 3))
    found = agrees(cost(model, 2))
    program = with_companions(found.program)
    name = next(name for name in program.by_name if name.startswith("∂∂cumprod"))
    at = Valuation(program, next(found.samples(1)), found.functions)
    z = at.value("z(layers.0)")
    expected = torch.autograd.functional.hessian(lambda u: u.cumprod(0)[2], z)
    assert relative(at.value(name)[2], expected) < 1e-12  # pyright: ignore[reportArgumentType]


def test_one_parameter_called_like_data_keeps_its_name() -> None:
    parameters = {
        "x": torch.randn(2, 3, dtype=torch.float64),
        "J": torch.randn(2, dtype=torch.float64),
    }
    data = (torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64))
    found = program_of(
        hesse.Cost(
            lambda p, x: torch.tanh(x @ p["x"].T + p["J"]), "half_sse", data, params=parameters
        )
    )
    assert found.parameters == ("x", "J")
    assert found.program.cost.name != "J" and {"x", "J", "x2"} <= set(found.program.leaves)


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize(
    "value", [0.5, -3.0, 1e-5, 0.1, 1 / 3, 2**-0.5, -(0.125**0.5), 1.2345678901234567, 1e20]
)
def test_numbers_keep_their_value(value: float) -> None:
    at = Valuation(Program({}, (Quantity("J", (), number(value)),)), {})
    assert float(at.value("J")) == pytest.approx(value, rel=4e-16)


def test_numbers_are_written_as_a_person_would() -> None:
    assert same(number(1 / 3), constant(Fraction(1, 3)))
    (term,) = number(8**-0.5).terms
    assert isinstance(term.factors[0], Power)


def test_conditions_in_a_row_are_one() -> None:
    q, h, d, g, e = (
        Index(name, size) for name, size in (("q", 12), ("h", 3), ("d", 4), ("g", 2), ("e", 2))
    )
    outer = Affine(q, 0, ((4, h), (1, d)))
    both = outer.with_head(Affine(h, 1, ())).with_head(Affine(d, 0, ((2, g), (1, e))))
    assert both.shown == "[{0} = 2{1} + {2} + 4]"
    assert both.always_inside
    stepwise = torch.einsum(
        "qhd,h,dge->qge", outer.array, Affine(h, 1, ()).array, Affine(d, 0, ((2, g), (1, e))).array
    )
    assert torch.equal(both.array, stepwise)


NOT_OF_SAMPLES = [case for case in CASES if not case.captured and cost_of(case).data is not None]
COUPLED = [case for case in NOT_OF_SAMPLES if re.search("train|couples", str(case))]


@pytest.mark.parametrize("case", COUPLED, ids=str)
def test_a_cost_that_couples_its_samples_is_one_of_all_of_them(case: Case) -> None:
    found = program_of(cost_of(case))
    assert found.whole is not None
    found.check_value(1)


@pytest.mark.parametrize("case", [case for case in NOT_OF_SAMPLES if case not in COUPLED], ids=str)
def test_a_cost_without_a_graph_is_refused(case: Case) -> None:
    with pytest.raises(HesseValueError, match="cannot be written as formulas of one sample"):
        program_of(cost_of(case))


def test_a_model_whose_conditions_would_not_fit_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(), nn.Linear(6 * 62 * 62, 1))
    with pytest.raises(
        HesseMemoryError,
        match=r"an axis of 23064 places .* needs an array of shape .*, 4.26 GB; .* smaller model",
    ):
        program_of(cost(model, 1, 64, 64))


def test_the_slope_of_a_pooling_takes_no_memory_to_stay() -> None:
    # How it moves has an entry for each three positions of an image, all of them zero.
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * 13 * 13, 2)
    ).double()
    data = (torch.rand(2, 1, 28, 28).double(), torch.rand(2, 2).double())
    derivation = hesse.derive(hesse.Cost(model, "mse", data), wrt=["0.weight"])
    assert derivation.certificate is not None and derivation.certificate.deviation < 1e-10
