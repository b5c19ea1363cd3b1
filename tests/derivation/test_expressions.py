"""Every cost of the table: each line certified, and slopes and blocks held against central
differences, another engine."""

import pytest
import torch

import hesse
from derivation.expressions import CASES, Case
from derivation.published import hold
from hesse.derivation.check.valuation import Valuation, relative

STEP = 1e-5


def differences(d: hesse.Derivation, parameter: str, value) -> torch.Tensor:
    """∂ value / ∂ parameter by central differences at the point of certification; the parameter's
    axes come first."""
    at = d.at
    assert at is not None
    base = at.value(parameter)
    columns = []
    for k in range(base.numel()):
        sides = []
        for sign in (1, -1):
            moved = base.clone()
            moved.view(-1)[k] += sign * STEP
            there = Valuation(d.program, {**at.arrays, parameter: moved}, at.functions, at.resized)
            sides.append(value(there))
        columns.append((sides[0] - sides[1]) / (2 * STEP))
    return torch.stack(columns).reshape((*base.shape, *columns[0].shape))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_case_certifies_and_agrees_with_central_differences(case: Case) -> None:
    d = case.derivation
    assert d.certificate is not None
    assert d.at is not None
    assert d.certificate.deviation < 1e-10
    assert d.certificate.block_deviation < 1e-10
    assert len(d.blocks) == len(d.parameters) * (len(d.parameters) + 1) // 2 or d.stages
    for name, slope in d.slopes.items():
        found = d.at.array(slope.expression, slope.parameter.indices)
        expected = differences(d, name, lambda there: there.value(d.program.cost.name))
        assert relative(found, expected) < 1e-6, f"∂J/∂{name}"
    for (rows, columns), block in d.blocks.items():
        slope = d.slopes[columns]
        found = d.at.array(block.expression, (*block.rows.indices, *block.columns.indices))
        expected = differences(
            d,
            rows,
            lambda there, slope=slope: there.array(slope.expression, slope.parameter.indices),
        )
        assert relative(found, expected) < 1e-6, f"block ({rows}, {columns})"
    for block, (form, _) in case.forms.items():
        assert d.block(block.split()[0], block.split()[-1]).matrix() == form
    hold(d, case.forms)
