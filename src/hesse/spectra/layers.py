"""How sharp a cost is, layer by layer."""

from typing import Any

from hesse.curvatures.curvature import Curvature
from hesse.errors import require_positive
from hesse.matrix.eigensolver import eigvalsh
from hesse.plot.layers import Layer, Layers
from hesse.process.memory import enough_memory
from hesse.process.undisturbed import undisturbed
from hesse.spectra.accuracy import Accuracy
from hesse.spectra.eigenpair_search import eigenpairs_of
from hesse.spectra.estimate import Estimate
from hesse.spectra.subject import Subject, subject
from hesse.spectra.trace import trace_of
from hesse.words import CurvatureName

# Of the largest eigenvalue: four digits of a table.
_TOLERANCE = 1e-4


@enough_memory()
@undisturbed()
def layers(
    what: Any,
    *,
    relative_error: float = 0.05,
    curvature: CurvatureName | str | Curvature = "hessian",
    products: int = 1000,
    seed: int = 0,
    memory: int | None = None,
    progress: bool | None = None,
) -> Layers:
    """How sharp a cost is: for each layer, and for the whole, its parameters, the trace of its own
    block, and the largest eigenvalue.

    The trace by parameter is what quantisation, and pruning, ask for; the largest eigenvalue bounds
    the step that a gradient method can take. ``print`` shows a table, `.plot()` draws it.

    Args:
        what: a cost, an operator of one, a Hessian, or an operator or matrix with named parts.
        relative_error: the standard error to stop at where a trace is estimated, as a part of it.
        curvature: of a cost: ``"hessian"``, ``"gauss_newton"``, or another `Curvature`.
        products: how many to take at the most for a number.
        seed: of the random vectors.
        memory: bytes to keep vectors in; by default half of what is free.
        progress: show a line; by default where it takes long and a terminal is watching.

    Raises:
        HesseTypeError: no matrix, or an argument of another type.
        HesseValueError: the matrix is not symmetric, or a name or a number that cannot be used.

    Source: Z. Dong et al., HAWQ-V2: Hessian aware trace-weighted quantization of neural networks,
    NeurIPS (2020).

    Examples:
        >>> import torch, hesse
        >>> X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1), "half_sse", (X, torch.zeros(2, 1)))
        >>> print(hesse.layers(cost))
        layer    parameters  trace  trace/parameter  largest eigenvalue
        weight            2     30               15               29.87
        bias              1      2                2                   2
        (whole)           3     32             10.7               31.62
    """
    accuracy = Accuracy.of(
        None,
        require_positive(relative_error, "relative_error"),
        products,
        seed,
        memory,
        progress,
    )
    whole = subject(what, curvature, memory)
    groups = whole.layout.layers
    rows = [_row(name, whole.part(names), accuracy) for name, names in groups.items()]
    return Layers(_row("(whole)", whole, accuracy), tuple(rows) if len(rows) > 1 else ())


def _row(name: str, part: Subject, accuracy: Accuracy) -> Layer:
    trace = trace_of(part, "auto", accuracy)
    if part.matrix is not None:
        values = eigvalsh(part.matrix.entries)
        largest = Estimate(
            float(values.max()) if len(values) else 0.0, exact=True, how=part.matrix.how
        )
    else:
        found = eigenpairs_of(
            part,
            1,
            "largest",
            tolerance=_TOLERANCE,
            products=accuracy.products,
            seed=accuracy.seed,
            memory=accuracy.memory,
            progress=accuracy.progress,
        )
        value, error = float(found.values[0]), float(found.residuals[0])
        largest = Estimate(
            value, error, found.products, found.how, notes=found.notes, measure="residual"
        )
    return Layer(name, part.size, trace, largest)
