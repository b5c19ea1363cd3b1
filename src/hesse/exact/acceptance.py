"""Whether a Hessian that was made is returned, or which parameters go another way."""

from collections.abc import Collection

from hesse.certificates.matrix import certify_matrix
from hesse.certificates.soundness import require_sound
from hesse.cost import Cost
from hesse.exact.fallback import fall_back, fall_back_if_undefined
from hesse.exact.plan import Plan
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.finiteness import require_finite, undefined


def accepted(
    cost: Cost, planned: Plan, H: BlockHessian, seconds: float, certify: bool
) -> tuple[BlockHessian, Collection[str]]:
    """A Hessian with its certificate, and the parameters that have fallen back to slower
    strategies, whose rows are to be made again; it is believed where there are none.

    Args:
        cost: the cost.
        planned: how it was made.
        H: as it was made.
        seconds: what that took.
        certify: hold it against double backward.

    Raises:
        HesseValueError: no strategy is left, or an entry is not finite by any.
    """
    if not certify:
        # Not a number is wrong without a certificate too: first the slower strategies are tried.
        bad = undefined(H)
        return H, bad if fall_back_if_undefined(cost, bad, planned.by_columns) else ()
    room = planned.column_budget if planned.captured else None
    verdict = certify_matrix(cost, H, seconds, require_sound(cost), room)
    if fall_back(cost, verdict.wrong, planned.by_columns, "Hessian"):
        return H, verdict.wrong
    # A product with a complete matrix shows what is not finite in it; other blocks are looked at
    # themselves.
    if verdict.undefined or not H.is_complete:
        require_finite(H)
    return H.with_certificate(verdict.certificate), ()
