"""The plan: which path each block takes, so that a silent fallback fails, and that it reads
well."""

import itertools

import pytest

import hesse
from cases import CASES, Case, cost_of

by_name = {case.name: case for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_block_takes_the_expected_path(case: Case) -> None:
    cost = cost_of(case)
    plan = hesse.plan(cost)
    assert plan.captured is case.captured, plan.notes
    pairs = list(itertools.combinations_with_replacement(cost.layout.names, 2))
    found = {pair: plan.strategy(*pair) for pair in pairs}
    assert found == {pair: case.strategy(*pair) for pair in pairs}


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if not case.captured or "columns" in case.paths.values()],
    ids=str,
)
def test_a_fallback_says_why(case: Case) -> None:
    plan = hesse.plan(cost_of(case))
    assert plan.notes
    assert all(note in " ".join(str(plan).split()) for note in plan.notes)
    assert all(len(line) <= 110 for line in str(plan).splitlines())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_prints_every_parameter_and_its_costs(case: Case) -> None:
    cost = cost_of(case)
    plan = hesse.plan(cost)
    text = str(plan)
    assert str(plan).startswith(str(cost))
    assert all(name in text for name in cost.layout.names) or len(plan.blocks) > 40
    assert plan.operations >= 0 and plan.peak_bytes >= cost.layout.size**2 * 8


def test_lines_are_not_too_long_to_read() -> None:
    assert max(len(line) for line in str(hesse.plan(cost_of(CASES[0]))).splitlines()) <= 110


def test_is_symmetric_in_the_pair() -> None:
    plan = hesse.plan(cost_of(CASES[0]))
    assert plan.strategy("0.weight", "2.weight") == plan.strategy("2.weight", "0.weight")


def test_fewer_blocks_take_fewer_operations() -> None:
    cost = cost_of(by_name["three layers"])
    full, diagonal = hesse.plan(cost), hesse.plan(cost, block_diagonal=True)
    one = hesse.plan(cost, pairs=[("0.weight", "2.weight")])
    assert one.operations < full.operations and diagonal.operations < full.operations
    assert [set(block.names) for block in one.blocks] == [{"0.weight", "2.weight"}]
    assert len(diagonal.blocks) == len(cost.layout.names)


def test_says_that_narrow_parameters_are_computed_in_float32() -> None:
    problem = CASES[0].problem()
    X, y = problem.data
    cost = hesse.Cost(problem.model.bfloat16(), "half_sse", (X.bfloat16(), y.bfloat16()))
    assert any(
        "bfloat16 parameters are computed in float32" in note for note in hesse.plan(cost).notes
    )
