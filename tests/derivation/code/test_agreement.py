"""A fault in the code of a block is refused, not returned."""

import sys
from typing import Any

import pytest

import hesse
from hesse.derivation.code.evaluation import evaluate


def test_code_that_does_not_agree_with_its_formula_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(*given: Any) -> Any:
        return 1.001 * evaluate(*given)

    monkeypatch.setattr(sys.modules["hesse.derivation.code.agreement"], "evaluate", wrong)
    with pytest.raises(hesse.HesseError, match=r"the code of the block \(x, x\) is off by 1.0e-03"):
        hesse.derive("sum(tanh(A @ x))", "x")
    # Without a certificate nothing is held against anything; a linear cost has nothing to be wrong.
    assert hesse.derive("sum(tanh(A @ x))", "x", certify=False).certificate is None
    assert hesse.derive("c @ x", "x", shapes="c[d] x[d]").certificate is not None
