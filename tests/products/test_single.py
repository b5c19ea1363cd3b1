"""The traced product for one v: no operation more than it takes, nothing written over that is seen
later."""

import pytest
import torch
from torch import nn

import hesse
from hesse.capture.straight_line import TracedProduct, aten
from hesse.products import slabs
from hesse.products.linearize import StraightLine, traced_product
from hesse.products.terms import batch_term
from networks import dense
from reference import relative

MATRIX_PRODUCTS = ("mm", "addmm", "addmm_", "bmm", "baddbmm", "baddbmm_")


def program_of(cost: hesse.Cost) -> TracedProduct:
    program = traced_product(batch_term(cost, next(cost.batches())))
    assert program is not None
    return program


def names(program: TracedProduct) -> list[str]:
    targets = [node.target for node in program.single.graph.nodes if node.op == "call_function"]
    return [str(target).split(".")[1] for target in targets if "aten" in str(target)]


def small_images() -> hesse.Cost:
    """Kernels of more entries than there are in the images."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(2, 16, 3, padding=1), nn.Tanh(), nn.Conv2d(16, 16, 3, padding=1), nn.Tanh()),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ).double()
    x, y = torch.randn(4, 2, 4, 4).double(), torch.arange(4)
    return hesse.Cost(model, "cross_entropy", (x, y))


@pytest.mark.parametrize("widths", [(3, 4, 2), (3, 4, 5, 2), (7, 3, 4, 5, 2)])
def test_two_products_for_the_first_layer_and_six_for_the_others(widths: tuple[int, ...]) -> None:
    """What no v reaches is multiplied once: the data have no tangent, and δ is kept."""
    x, y = torch.randn(6, widths[0]), torch.arange(6) % 2
    made = names(program_of(hesse.Cost(dense(*widths), "cross_entropy", (x, y))))
    assert sum(name in MATRIX_PRODUCTS for name in made) == 2 + 6 * (len(widths) - 2)


def test_one_convolution_gives_both_parts_of_a_large_kernel() -> None:
    cost = small_images()
    program = program_of(cost)
    several = program.apply.graph.find_nodes(
        op="call_function", target=aten.convolution_backward.default
    )
    # Of the second and the third; the first has one.
    assert names(program).count("convolution_backward") == len(several) - 2
    v = torch.randn(cost.layout.size).double()
    expected = hesse.hessian(cost, certify=False) @ v
    assert relative(hesse.operator(cost, certify=False) @ v, expected) < 1e-12


def test_neither_v_nor_what_is_kept_is_written_over() -> None:
    cost = small_images()
    product, v = hesse.operator(cost), torch.randn(cost.layout.size).double()
    given = v.clone()
    first = (product @ v).clone()
    assert torch.equal(product @ v, first) and torch.equal(v, given)
    assert torch.allclose(product @ (2 * v), 2 * first, rtol=1e-12)


@pytest.mark.parametrize("slower", [None, True, False])
def test_many_columns_either_way(slower: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks, timed where it is not known yet which way is faster, or one after another."""
    cost = small_images()
    product = hesse.operator(cost)
    (linear,) = product._kept.batches
    assert isinstance(linear, StraightLine)
    monkeypatch.setattr(slabs, "CACHES", 4 * linear._program.workspace)
    linear._slower = slower
    V = torch.randn(cost.layout.size, 19).double()
    assert relative(product @ V, hesse.hessian(cost, certify=False) @ V) < 1e-12
    assert linear._slower is not None and slower in (None, linear._slower)


def _taken_apart(h: torch.Tensor, way: str) -> torch.Tensor:
    """Rows of a (6, 4) tensor, taken apart and used one after another, or all."""
    ways = {
        "steps": lambda: [h[t] for t in range(6)],
        "from the end": lambda: [h[-1 - t] for t in range(6)],
        "slices": lambda: [h[:, :1].T, h[:, 1:3].T, h[:, 3:].T],
        "not all": lambda: [h[t] for t in range(5)],
        "twice": lambda: [h[t] for t in (0, 1, 2, 3, 4, 5, 5)],
        "overlapping": lambda: [h[:, :2].T, h[:, 1:].T],
        "every other": lambda: [h[::2], h[1::2]],
    }
    total = h.new_ones(())
    for part in ways[way]():
        total = torch.tanh(total + (part * part.flip(-1)).sum()) + part.sin().mean()
    return total


@pytest.mark.parametrize(
    ("way", "joins"),
    [
        ("steps", "stack"),
        ("from the end", "stack"),
        ("slices", "cat"),
        *((way, None) for way in ("not all", "twice", "overlapping", "every other")),
    ],
)
def test_ways_back_from_what_was_taken_apart_lie_side_by_side(way: str, joins: str | None) -> None:
    """One operation in place of zeros and a sum for each part; where the parts are not all there
    is, or meet, sums."""
    torch.manual_seed(0)
    start = {"w": torch.randn(6, 3).double(), "u": torch.randn(3, 4).double()}
    cost = hesse.Cost.from_function(lambda p: _taken_apart(p["w"] @ p["u"], way), start)
    program = traced_product(batch_term(cost, None))
    assert program is not None
    made = names(program)
    assert [name for name in made if name in ("stack", "cat")] == [joins] * (joins is not None)
    assert any(name.endswith("_backward") for name in made) == (joins is None)
    flat = torch.cat([part.reshape(-1) for part in start.values()])

    def of_flat(theta: torch.Tensor) -> torch.Tensor:
        return _taken_apart(theta[:18].view(6, 3) @ theta[18:].view(3, 4), way)

    expected = torch.func.hessian(of_flat)(flat)
    product = hesse.operator(cost, certify=False)
    assert relative(product @ torch.eye(30).double(), expected) < 1e-12
    assert relative(hesse.hessian(cost, certify=False).dense(), expected) < 1e-12
