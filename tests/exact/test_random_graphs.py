"""Networks drawn as graphs, each in every way that hesse gives second derivatives, with a
certificate and without."""

import math

import pytest
import torch

from random_graphs import Graph, check, graph_of
from random_graphs.check import WAYS
from random_graphs.graphs import modules_used

# Those that together hold the most kinds of pieces, for each takes a second:
# python tests/random_graphs --count 900 --choose 100 --most 4
SEEDS = (
    1, 4, 5, 18, 23, 25, 30, 31, 32, 45, 56, 57, 60, 61, 65, 75, 77, 81, 82, 86, 88, 96, 97,
    105, 109, 111, 119, 120, 129, 130, 134, 161, 172, 174, 186, 190, 198, 202, 206, 214, 228,
    230, 233, 234, 262, 264, 267, 272, 276, 289, 295, 298, 314, 333, 335, 338, 346, 347, 356,
    359, 361, 380, 388, 393, 419, 422, 434, 452, 461, 470, 476, 490, 496, 519, 528, 541, 555,
    561, 568, 583, 598, 620, 627, 632, 656, 662, 712, 716, 760, 784, 787, 790, 795, 804, 814,
    821, 831, 839, 867, 890,
)  # fmt: skip
# Values before a network ends, or ends a block: tracing it takes the time; some are larger.
MOST, LARGE = 4, 24
# What a graph is tried in beside the whole Hessian, in turn; an operator is traced anew, which
# takes as long as all the rest.
TURNS = ["memory", "block diagonal", "pairs", "diagonal", "elsewhere"]


def graph(place: int) -> Graph:
    return graph_of(SEEDS[place], LARGE if place % 20 == 10 else MOST)


@pytest.mark.some(of=5)
@pytest.mark.parametrize("place", range(len(SEEDS)), ids=map(str, SEEDS))
def test_a_graph(place: int) -> None:
    turn = "operator" if place % 20 == 0 else TURNS[place // 2 % len(TURNS)]
    # One of the two bare, the other certified: as much again of either takes minutes of the run.
    ways = [("hessian",), (turn,)]
    verdict = check(graph(place), *(ways if place % 2 == 0 else ways[::-1]))
    assert not verdict.failures, (
        f"{[str(outcome) for outcome in verdict.failures]}\n{verdict.description}"
    )


def test_the_graphs_are_what_they_should_be() -> None:
    """That a test of random things is not one of nothing: sites, sizes, and kinds of pieces."""
    kinds, several, unlike = set[str](), 0, 0
    for place in range(len(SEEDS)):
        made = graph(place)
        kinds |= set(modules_used(made.net))
        sites = [step for step in made.net.walk() if any(True for _ in step.module.parameters())]
        assert 3 <= len(sites) <= 10
        assert sum(parameter.numel() for parameter in made.net.parameters()) <= 360
        several += len(made.batches) > 1
        unlike += len({y.shape[1:] for _, y in made.batches}) > 1
    assert len(kinds) > 420
    assert several > len(SEEDS) / 4


def test_a_seed_is_always_the_same_graph_and_leaves_the_random_state_alone() -> None:
    state = torch.random.get_rng_state()
    first, second = graph_of(3), graph_of(3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.described() == second.described()
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.net.parameters(), second.net.parameters(), strict=True)
    )


def test_a_wrong_number_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry of H off by a millionth of the largest."""
    way = WAYS["hessian"]

    def off(*arguments: object, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
        found, expected = way(*arguments, **options)
        found = found.clone()
        found[-1, 0] += 1e-6 * expected.abs().max()
        return found, expected

    monkeypatch.setitem(WAYS, "hessian", off)
    verdict = check(graph_of(3), ("hessian",), ())
    assert [outcome.verdict for outcome in verdict.outcomes] == ["wrong"]
    assert math.isclose(verdict.outcomes[0].error, 1e-6, rel_tol=1e-3)
