"""hesse: the second derivatives of a neural network's cost function.

Everything is a function of an immutable `Cost`:

    cost = hesse.Cost(model, loss, data)
    H = hesse.hessian(cost)
    H["0.weight", "2.weight"]
"""

import importlib
from typing import TYPE_CHECKING, Any

from hesse.certificates import Certificate
from hesse.cost import Cost
from hesse.curvatures.fisher import SampledFisher
from hesse.distributed.group import alone
from hesse.errors import HesseError
from hesse.evaluation import gradient, value
from hesse.exact.diagonal import diagonal
from hesse.exact.hessian import hessian
from hesse.exact.plan import Plan
from hesse.exact.planning import plan
from hesse.layout import Layout
from hesse.linear_operators.linear_operator import LinearOperator
from hesse.matrix.block_hessian import BlockHessian
from hesse.products.hessian_operator import HessianOperator, operator

if TYPE_CHECKING:
    from hesse.derivation.convexity.verdict import Convexity
    from hesse.derivation.derivation import Derivation
    from hesse.derivation.derive import derive
    from hesse.derivation.formula import Formula
    from hesse.derivation.hessian import DerivedHessian
    from hesse.derivation.sources.networks.network import Network
    from hesse.inference.estimates import StandardErrors
    from hesse.inference.standard_errors import standard_errors
    from hesse.kronecker.approximation import KFAC
    from hesse.kronecker.kfac import kfac
    from hesse.linear_operators.conversion import as_operator
    from hesse.linear_operators.given import FunctionOperator
    from hesse.linear_operators.low_rank import DiagonalOperator, LowRank
    from hesse.matrix.loading import load
    from hesse.plot import (
        Density,
        Eigenvectors,
        ErrorCurve,
        HeatMap,
        Layers,
        LayerSpectra,
        NormMap,
        Plane,
        Slice,
        Spectrum,
    )
    from hesse.products.jacobian import JacobianOperator, jacobian
    from hesse.reports.report import Report, report
    from hesse.samples.per_sample import PerSample, per_sample
    from hesse.solves.inverse import covariance, inverse
    from hesse.solves.solution import Solution
    from hesse.solves.solve import solve
    from hesse.spectra.condition import condition_number
    from hesse.spectra.density import density
    from hesse.spectra.diagonal import EstimatedDiagonal, estimated_diagonal
    from hesse.spectra.eigenpair_search import eigenpairs
    from hesse.spectra.eigenpairs import Eigenpairs
    from hesse.spectra.estimate import Estimate
    from hesse.spectra.layers import layers
    from hesse.spectra.logdet import effective_dimension, logdet
    from hesse.spectra.trace import squared_norm, trace
    from hesse.store.status import Status, status
    from hesse.taylor import QuadraticModel, StationaryPoint, Step, Trust, minimize, quadratic

from hesse.version import __version__ as __version__

__all__ = [
    "KFAC",
    "BlockHessian",
    "Certificate",
    "Convexity",
    "Cost",
    "Density",
    "Derivation",
    "DerivedHessian",
    "DiagonalOperator",
    "Eigenpairs",
    "Eigenvectors",
    "ErrorCurve",
    "Estimate",
    "EstimatedDiagonal",
    "Formula",
    "FunctionOperator",
    "HeatMap",
    "HesseError",
    "HessianOperator",
    "JacobianOperator",
    "LayerSpectra",
    "Layers",
    "Layout",
    "LinearOperator",
    "LowRank",
    "Network",
    "NormMap",
    "PerSample",
    "Plan",
    "Plane",
    "QuadraticModel",
    "Report",
    "SampledFisher",
    "Slice",
    "Solution",
    "Spectrum",
    "StandardErrors",
    "StationaryPoint",
    "Status",
    "Step",
    "Trust",
    "alone",
    "as_operator",
    "condition_number",
    "covariance",
    "density",
    "derive",
    "diagonal",
    "effective_dimension",
    "eigenpairs",
    "estimated_diagonal",
    "gradient",
    "hessian",
    "inverse",
    "jacobian",
    "kfac",
    "layers",
    "load",
    "logdet",
    "minimize",
    "operator",
    "per_sample",
    "plan",
    "quadratic",
    "report",
    "solve",
    "squared_norm",
    "standard_errors",
    "status",
    "trace",
    "value",
]


# All but costs, Hessians, diagonals, products and plans is fetched when it is first asked for: what
# wants a Hessian should not wait for the rest.
_LATER = {
    "Convexity": "hesse.derivation.convexity.verdict",
    "Derivation": "hesse.derivation.derivation",
    "DerivedHessian": "hesse.derivation.hessian",
    "DiagonalOperator": "hesse.linear_operators.low_rank",
    "Eigenpairs": "hesse.spectra.eigenpairs",
    "Estimate": "hesse.spectra.estimate",
    "EstimatedDiagonal": "hesse.spectra.diagonal",
    "Formula": "hesse.derivation.formula",
    "FunctionOperator": "hesse.linear_operators.given",
    "JacobianOperator": "hesse.products.jacobian",
    "KFAC": "hesse.kronecker.approximation",
    "LowRank": "hesse.linear_operators.low_rank",
    "Network": "hesse.derivation.sources.networks.network",
    "PerSample": "hesse.samples.per_sample",
    "QuadraticModel": "hesse.taylor",
    "Report": "hesse.reports.report",
    "Solution": "hesse.solves.solution",
    "StandardErrors": "hesse.inference.estimates",
    "StationaryPoint": "hesse.taylor",
    "Status": "hesse.store.status",
    "Step": "hesse.taylor",
    "Trust": "hesse.taylor",
    "as_operator": "hesse.linear_operators.conversion",
    "condition_number": "hesse.spectra.condition",
    "covariance": "hesse.solves.inverse",
    "density": "hesse.spectra.density",
    "derive": "hesse.derivation.derive",
    "effective_dimension": "hesse.spectra.logdet",
    "eigenpairs": "hesse.spectra.eigenpair_search",
    "estimated_diagonal": "hesse.spectra.diagonal",
    "inverse": "hesse.solves.inverse",
    "jacobian": "hesse.products.jacobian",
    "kfac": "hesse.kronecker.kfac",
    "layers": "hesse.spectra.layers",
    "load": "hesse.matrix.loading",
    "logdet": "hesse.spectra.logdet",
    "minimize": "hesse.taylor",
    "per_sample": "hesse.samples.per_sample",
    "quadratic": "hesse.taylor",
    "report": "hesse.reports.report",
    "solve": "hesse.solves.solve",
    "squared_norm": "hesse.spectra.trace",
    "standard_errors": "hesse.inference.standard_errors",
    "status": "hesse.store.status",
    "trace": "hesse.spectra.trace",
    **dict.fromkeys(
        (
            "Density",
            "Eigenvectors",
            "ErrorCurve",
            "HeatMap",
            "LayerSpectra",
            "Layers",
            "NormMap",
            "Plane",
            "Slice",
            "Spectrum",
        ),
        "hesse.plot",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'hesse' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
