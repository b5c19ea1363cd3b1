"""`minimize`: go down the cost by steps from its quadratic models."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hesse.cost import Cost, cost_with_curvature
from hesse.curvatures.curvature import Curvature
from hesse.errors import (
    HesseError,
    HesseMemoryError,
    HesseTypeError,
    HesseValueError,
    readable_bytes,
    require_flags,
    require_integer,
    require_positive,
    require_progress,
    require_word,
)
from hesse.process.memory import available_bytes, enough_memory
from hesse.process.progress import StatusLine
from hesse.process.undisturbed import undisturbed
from hesse.taylor import checkpoint, checks
from hesse.taylor.descent import Goal, State, Status, newton_cg, within_radius
from hesse.taylor.points import Evaluator, Iterate
from hesse.taylor.proposals import METHODS, HessianForm
from hesse.taylor.subproblem.cholesky import Guess
from hesse.words import CurvatureName, MinimizeMethod

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

# Of (P, P) matrices held at once: H, its factor, and the next H while it is made, with what that
# takes.
_COPIES = 4
# Of the time of a run: what the smallest eigenvalue on the progress line may take. It costs some 40
# products, or all eigenvalues, and only tells where the run is.
_SHARE = 0.2
_ADVICE = (
    "give the data in smaller batches, or less to work in with memory=; method='trust-ncg' keeps"
    " vectors only"
)

Callback = Callable[[Iterate], Any]


@enough_memory(_ADVICE)
@undisturbed()
def minimize(
    cost: Cost,
    method: MinimizeMethod | str = "trust-exact",
    *,
    curvature: CurvatureName | str | Curvature = "hessian",
    start: "OptimizeResult | Mapping[str, Tensor] | Tensor | str | PathLike[str] | None" = None,
    out: str | PathLike[str] | None = None,
    tolerance: float = 1e-6,
    maxiter: int = 1000,
    radius: float | None = None,
    dense: bool | None = None,
    memory: int | None = None,
    callback: Callback | None = None,
    certify: bool = True,
    apply: bool = False,
    progress: bool | None = None,
) -> "OptimizeResult":
    """Minimise a cost by second-order steps, from its exact Hessian or from products with it.

    Each iteration evaluates J and ∇J once, together, and H at most once. With m(s) = gᵀs + ½ sᵀHs:

    | method | the step s | H |
    |---|---|---|
    | ``trust-exact`` | minimises m over ‖s‖ <= radius | built |
    | ``cubic`` | minimises m + M/6 ‖s‖³; here radius stands for 1/M | built where it fits |
    | ``trust-krylov`` | as trust-exact, in a Krylov space | products |
    | ``trust-ncg`` | as trust-exact, by conjugate gradients up to the boundary | products |
    | ``dogleg`` | as trust-exact, on the way to Newton's step by the steepest descent; for a
      positive definite H | built |
    | ``Newton-CG`` | along conjugate gradients' direction, by a line search | products |

    The steps of trust-krylov, trust-ncg, dogleg and Newton-CG are SciPy's. A step to where the cost
    or its gradient is not finite is shortened, and the message says so. trust-exact and cubic leave
    saddles as well, where H is built: they stop only where no eigenvalue is below −√tolerance.

    Args:
        cost: the cost; the run starts at its parameters.
        method: one of the above.
        curvature: what stands for H: ``"hessian"``, the exact one, or another `Curvature`.
        start: where to start instead: parameters, or a state_dict in a ``.safetensors`` or ``.pt``
            file; or an earlier result, or the file of one, from which the run goes on as if it had
            not stopped.
        out: a ``.safetensors`` file of where the run is, rewritten as it goes, whole at any time: a
            run that was stopped, killed even, goes on from it with ``start=``. A file that cannot
            be written ends no run; the message says so.
        tolerance: stop where no entry of the gradient is larger.
        maxiter: the most iterations of this run.
        radius: the first radius; by default 1, or that of the result that the run goes on from.
        dense: build H, or never; by default as in the table.
        memory: bytes for H, as for `hesse.hessian` and `hesse.operator`.
        callback: called with an `Iterate` after every iteration; returning true or raising
            StopIteration stops.
        certify: hold H at the first iterate and at the last against double backward of the function
            as given.
        apply: copy the parameters found into the model that the cost was made of.
        progress: show a line with the cost, ‖g‖∞, the radius and the smallest eigenvalue; by
            default where the work takes more than two seconds and a terminal is watching.

    Returns:
        SciPy's result: ``x``, ``fun``, ``jac``, ``nit``, ``nfev``, ``njev``, ``nhev`` (Hessians, or
        products), ``success``, ``message``; ``status`` 0 for the tolerance reached, 1 for maxiter,
        2 for the end of the dtype's precision, 3 for an H that is not finite, not definite or
        refused, 4 for the callback. Also ``parameters`` {name: Tensor}, ``cost`` (the cost there),
        ``method``, ``certificates`` (of H at the first iterate and the last), ``shortened`` (how
        many steps met a cost that is not finite), and what a run needs to go on from here:
        ``radius`` and ``guess``. Such a run adds to the counts.

    Raises:
        HesseTypeError: an argument of another type; ``apply`` with a cost of a function, which has
            no model.
        HesseValueError: an unknown method, a number out of range, or a start whose cost is not
            finite.
        HesseKeyError: a start with other names.
        HesseFileError: ``out`` cannot be written to, or ``start`` cannot be read.
        HesseMemoryError: H does not fit and the method needs it.
        HesseError: the cost is refused at the start. Refused later, the result is the best point so
            far, and says so.

    Source:
        J. Nocedal and S. J. Wright, Numerical Optimization (2006), algorithm 4.1; for ``cubic`` C.
        Cartis, N. I. M. Gould and Ph. L. Toint, Adaptive cubic regularisation methods, Math.
        Program. 127 (2011), 245.

    Examples:
        >>> import torch, hesse
        >>> rosenbrock = lambda p: (1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2
        >>> cost = hesse.Cost.from_function(
        ...     rosenbrock, {"x": torch.tensor(-1.2).double(), "y": torch.tensor(1.0).double()}
        ... )
        >>> result = hesse.minimize(cost)
        >>> result.success, result.x.round(6)
        (True, array([1., 1.]))
    """
    cost = cost_with_curvature(cost, curvature)
    require_flags(certify=certify, apply=apply)
    require_progress(progress)
    _check(method, dense, callback)
    goal = Goal(
        require_positive(tolerance, "tolerance", zero=True),
        require_integer(maxiter, "maxiter", 0),
    )
    radius = None if radius is None else checks.require_size(radius, "radius")
    from scipy.optimize import OptimizeResult

    # Looked up before the work: a model that is gone should not be noticed after it.
    users = _parameters_of_the_model(cost) if apply else None
    if isinstance(start, str | PathLike):
        start = checkpoint.read(start, "start")
    saved = None if out is None else checkpoint.Checkpoint(out)
    earlier: Any = start if isinstance(start, OptimizeResult) else {}
    begin = cost if start is None else cost.at(_parameters(start))
    built = _is_dense(cost, method, dense)
    evaluator = Evaluator(begin, built, memory)
    point = evaluator.at(begin.theta.to(begin.dtype))
    if point is None:
        where = "at the start" if start is not None else "at its parameters"
        raise HesseValueError(
            f"cost: its value or gradient is not finite {where}; start elsewhere, with start="
        )
    first = earlier.get("radius") or 1.0
    first = radius if radius is not None else checks.require_size(first, "start.radius")
    make = METHODS[method].make
    certificates = [point.certify()] if certify else []
    guess: Guess = earlier.get("guess", Guess())
    if guess.lowest is not None:
        guess = guess._replace(lowest=guess.lowest.to(point.gradient))
    state = State(point, float(first) if make else None, guess, earlier.get("nit", 0))

    def keep() -> None:
        if saved is not None:
            reason = "the run has not ended"
            saved.keep(_result(evaluator, state, Status.ITERATIONS, reason, method, earlier))

    with StatusLine(progress) as line, saved or nullcontext():
        watch = _Watch(line, callback, keep)
        try:
            with enough_memory(_ADVICE):
                if make is None:
                    status, reason = newton_cg(evaluator, state, goal, watch)
                else:
                    status, reason = within_radius(evaluator, make(built), state, goal, watch)
        except HesseError as error:
            # Of the start, or the caller's own; else what was found on the way is not lost.
            if state.point is point or error is watch.error:
                raise
            status, reason, certify = (
                Status.CURVATURE,
                f"the cost is refused here, at ‖g‖∞ = {state.point.norm:.2e}: {error}",
                False,
            )
    if certify and state.point is not point:
        try:
            certificates.append(state.point.certify())
        except HesseValueError as error:
            status, reason = (
                Status.CURVATURE,
                f"{reason}; but H there is not to be believed: {error}",
            )
    result = _result(evaluator, state, status, reason, method, earlier)
    result.certificates = tuple(
        certificate for certificate in certificates if certificate is not None
    )
    if saved is not None:
        with saved:
            saved.keep(result)
        if saved.failure is not None:
            result.message += f"; but it is in no file: {saved.failure}"
    if users is not None:
        _apply(users, result.parameters)
    return result


class _Watch:
    """Keeps an iterate, shows it on the progress line and to the callback; says whether to stop.

    Attributes:
        error: what the callback raised.
    """

    def __init__(
        self, line: StatusLine, callback: Callback | None, keep: Callable[[], None]
    ) -> None:
        self._line, self._callback, self._keep = line, callback, keep
        self._start, self._spent, self._eigenvalue = time.perf_counter(), 0.0, ""
        self.error: HesseError | None = None

    def __call__(self, iterate: Iterate) -> bool:
        self._keep()
        if self._line.due:
            self._line.show(f"{iterate}{self._smallest(iterate)}")
        try:
            return self._callback is not None and bool(self._callback(iterate))
        except StopIteration:
            return True
        except HesseError as error:
            self.error = error
            raise

    def _smallest(self, iterate: Iterate) -> str:
        """The smallest eigenvalue, or that of an earlier iterate where finding it would take too
        much of the time."""
        begin = time.perf_counter()
        if not self._eigenvalue or self._spent <= _SHARE * (begin - self._start):
            self._eigenvalue = f"   {iterate.lowest} (at {iterate.iteration})"
            self._spent += time.perf_counter() - begin
        return self._eigenvalue


def _result(
    evaluator: Evaluator, state: State, status: Status, reason: str, method: str, earlier: Any
) -> "OptimizeResult":
    from hesse.taylor.result import Minimum

    shortened = earlier.get("shortened", 0) + evaluator.shortened
    if evaluator.shortened:
        several = "s" * (evaluator.shortened > 1)
        reason += f"; shortened {evaluator.shortened} step{several} to where the cost is not finite"
    point = state.point
    return Minimum(
        x=point.theta.cpu().numpy(),
        fun=point.value,
        jac=point.gradient.cpu().numpy(),
        parameters=dict(point.cost.parameters),
        cost=point.cost,
        success=status is Status.REACHED,
        status=int(status),
        message=reason,
        method=method,
        nit=state.iteration,
        nfev=earlier.get("nfev", 0) + evaluator.evaluations,
        njev=earlier.get("njev", 0) + evaluator.evaluations,
        nhev=earlier.get("nhev", 0) + evaluator.hessians,
        shortened=shortened,
        radius=state.radius,
        guess=state.guess,
    )


def _is_dense(cost: Cost, method: str, dense: bool | None) -> bool:
    """Whether H is built."""
    form = METHODS[method].form
    if form is HessianForm.BUILT and dense is False:
        raise HesseValueError(
            f"dense: {method} needs H itself; method='trust-krylov' or 'cubic' takes products"
            " with it"
        )
    wanted = dense if dense is not None else form is not HessianForm.PRODUCTS
    needed, room = _COPIES * cost.dtype.itemsize * cost.layout.size**2, available_bytes(cost.device)
    if not wanted or needed <= room:
        return wanted
    if dense is None and form is HessianForm.BUILT_WHERE_IT_FITS:
        return False
    raise HesseMemoryError(
        f"method: {method} builds H: with P = {cost.layout.size} it takes {readable_bytes(needed)}"
        f" to work with, and {readable_bytes(room)} are free; method='trust-ncg' needs only"
        " products with H"
    )


def _check(method: Any, dense: Any, callback: Any) -> None:
    require_word(method, "method", METHODS)
    checks.require_dense_option(dense, "the method prefers")
    if callback is not None and not callable(callback):
        raise HesseTypeError(
            f"callback: expected a function of an Iterate, got {type(callback).__name__}"
        )


def _parameters(start: Any) -> Any:
    """The parameters that a start names: an earlier result holds them beside much else."""
    from scipy.optimize import OptimizeResult

    if not isinstance(start, OptimizeResult):
        if not isinstance(start, Mapping | Tensor):
            raise HesseTypeError(
                "start: expected an earlier result, its file, {name: Tensor} or a flat tensor, got"
                f" {type(start).__name__}"
            )
        return start
    if "parameters" not in start:
        raise HesseValueError(
            "start: expected a result of hesse.minimize, which has .parameters; otherwise give a"
            " flat tensor"
        )
    return start.parameters


def _parameters_of_the_model(cost: Cost) -> dict[str, nn.Parameter]:
    """The user's own parameters, which a cost otherwise keeps only copies of."""
    users = cost.origin() if cost.origin is not None else None
    if users is None:
        which = "is of a function" if cost.origin is None else "is of a model that is gone"
        raise HesseTypeError(
            f"apply: this cost {which}, so there is no model to change; take result.parameters"
        )
    return users


def _apply(users: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    before = {name: users[name].detach().clone() for name in parameters}
    try:
        _copy(users, parameters)
    except BaseException:  # Ctrl-C: all of them, or none
        _copy(users, before)
        raise


def _copy(users: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            users[name].copy_(value)
