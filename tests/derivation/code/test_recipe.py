"""Another library to write code for is one record of its words; and what is printed is what
runs."""

import ast
import inspect
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy
import pytest
import scipy.special

import hesse
from formula_cases import COSTS, F_OF, CostText, arrays_for, as_numpy, for_numpy
from hesse.derivation.code import evaluation
from hesse.derivation.code.backends import BACKENDS, NUMPY
from hesse.derivation.code.python import python
from hesse.derivation.code.syntax import defined

# NumPy's functions as another library spells them, whose arrays cannot be written to.
ABACUS = replace(
    NUMPY,
    name="abacus",
    modules={"numpy": "abacus.numpy", "math": "math", "scipy.special": "abacus.scipy.special"},
    array="abacus",
    onto_diagonal="array = abacus.onto(array, subscripts, value)",
)


def onto(array: numpy.ndarray, subscripts: str, value: Any) -> numpy.ndarray:
    changed = array.copy()
    numpy.einsum(subscripts, changed)[...] += value
    return changed


@pytest.fixture
def abacus(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy under another name, and the record of that name."""
    library = ModuleType("abacus")
    library.__dict__.update(numpy=numpy, scipy=scipy, onto=onto)
    for path, module in {
        "abacus": library,
        "abacus.numpy": numpy,
        "abacus.scipy": scipy,
        "abacus.scipy.special": scipy.special,
    }.items():
        monkeypatch.setitem(sys.modules, path, module)
    monkeypatch.setitem(BACKENDS, "abacus", ABACUS)


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.text)
def test_a_library_is_a_record_of_words(cost: CostText, abacus: None) -> None:
    d = cost.derivation
    arrays = as_numpy(arrays_for(d.program))
    unknown = {"f": for_numpy(F_OF)} if d.program.unknown else {}
    derivatives = dict(zip(("f", "df", "d2f"), for_numpy(F_OF), strict=True))
    for rows in d.parameters:
        block = d.block(rows, d.parameters[-1])
        source = block.python("abacus")
        space: dict[str, Any] = {}
        exec(source, space)
        asked = inspect.signature(space["hessian_block"]).parameters
        value = space["hessian_block"](
            **{name: ({**derivatives, **arrays})[name] for name in asked}
        )
        assert numpy.allclose(value, block.evaluate(**arrays, **unknown), rtol=1e-12, atol=1e-13)
        assert "import abacus.numpy\n" in source and "[...] +=" not in source
        assert all("abacus" in line for line in source.splitlines() if "numpy" in line)


def test_a_name_of_a_formula_is_not_that_of_the_library(abacus: None) -> None:
    source = hesse.derive("sum(exp(abacus))", "abacus", certify=False).block("abacus", "abacus")
    assert "def hessian_block(abacus_2):" in source.python("abacus")
    with pytest.raises(hesse.HesseError, match="expected 'numpy' or 'torch' or 'jax' or 'abacus'"):
        source.python("abakus")


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.text)
def test_what_is_printed_is_what_runs(
    cost: CostText, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    d = cost.derivation
    tensors = arrays_for(d.program)
    arrays = tensors if backend == "torch" else as_numpy(tensors)
    unknown = {"f": F_OF if backend == "torch" else for_numpy(F_OF)} if d.program.unknown else {}
    sizes = {
        size: length
        for name, array in tensors.items()
        for size, length in zip(d.program.leaves[name].sizes, array.shape, strict=True)
        if isinstance(size, str)
    }
    run: list[str] = []

    def watched(name: str, parameters: Sequence[str], body: Sequence[ast.stmt]) -> ast.FunctionDef:
        run[:] = map(ast.unparse, body)
        return defined(name, parameters, body)

    monkeypatch.setattr(evaluation, "_kept", OrderedDict())
    monkeypatch.setattr(evaluation, "defined", watched)
    block = d.block(d.parameters[0], d.parameters[-1])
    block.evaluate(**arrays, **unknown)
    (function,) = (
        node
        for node in ast.parse(python(block.block, d.program, backend, sizes=sizes)).body
        if isinstance(node, ast.FunctionDef)
    )
    printed = [ast.unparse(statement) for statement in function.body[1:]]
    # What only an unneeded argument would tell has a name of its own when it runs.
    like = function.args.args[0].arg
    run = [line.replace("like.", f"{like}.") for line in run]
    assert [line for line in printed if ".shape[" not in line] == run
