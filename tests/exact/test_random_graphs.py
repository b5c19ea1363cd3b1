"""Networks drawn as graphs, each in every way that hesse gives second derivatives, with a
certificate and without."""

import math

import pytest
import torch

from random_graphs import Graph, check, graph_of
from random_graphs.check import WAYS
from random_graphs.graphs import modules_used

GRAPHS = 230
MOST = (
    4  # values before a network ends, or ends a block: tracing it takes the time; some are larger
)
# What a graph is tried in beside the whole Hessian, in turn; an operator is traced anew, which
# takes as long as all the rest.
TURNS = ["memory", "block diagonal", "pairs", "diagonal", "elsewhere"]


def graph(seed: int) -> Graph:
    return graph_of(seed, 24 if seed % 25 == 0 else MOST)


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_a_graph(seed: int) -> None:
    turn = "operator" if seed % 20 == 0 else TURNS[seed // 2 % len(TURNS)]
    # One of the two bare, the other certified: as much again of either takes minutes of the run.
    ways = [("hessian",), (turn,)]
    verdict = check(graph(seed), *(ways if seed % 2 == 0 else ways[::-1]))
    assert not verdict.failures, (
        f"{[str(outcome) for outcome in verdict.failures]}\n{verdict.description}"
    )


def test_the_graphs_are_what_they_should_be() -> None:
    """That a test of random things is not one of nothing: sites, sizes, and kinds of pieces."""
    kinds, several, unlike = set[str](), 0, 0
    for seed in range(GRAPHS):
        made = graph(seed)
        kinds |= set(modules_used(made.net))
        sites = [step for step in made.net.walk() if any(True for _ in step.module.parameters())]
        assert 3 <= len(sites) <= 10
        assert sum(parameter.numel() for parameter in made.net.parameters()) <= 360
        several += len(made.batches) > 1
        unlike += len({y.shape[1:] for _, y in made.batches}) > 1
    assert len(kinds) > 400
    assert several > GRAPHS / 4


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
