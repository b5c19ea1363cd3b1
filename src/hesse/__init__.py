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
from hesse.kronecker.approximation import KFAC
from hesse.kronecker.kfac import kfac
from hesse.layout import Layout
from hesse.linear_operators.conversion import as_operator
from hesse.linear_operators.given import FunctionOperator
from hesse.linear_operators.linear_operator import LinearOperator
from hesse.linear_operators.low_rank import DiagonalOperator, LowRank
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.loading import load
from hesse.products.hessian_operator import HessianOperator, operator
from hesse.products.jacobian import JacobianOperator, jacobian
from hesse.samples.per_sample import PerSample, per_sample
from hesse.solves.inverse import covariance, inverse
from hesse.solves.solution import Solution
from hesse.solves.solve import solve
from hesse.store.status import Status, status
from hesse.taylor import QuadraticModel, StationaryPoint, Step, Trust, minimize, quadratic

if TYPE_CHECKING:
    from hesse.derivation.convexity.verdict import Convexity
    from hesse.derivation.derivation import Derivation
    from hesse.derivation.derive import derive
    from hesse.derivation.formula import Formula
    from hesse.derivation.hessian import DerivedHessian
    from hesse.derivation.sources.networks.network import Network
    from hesse.plot import Density, ErrorCurve, HeatMap, Layers, Plane, Slice, Spectrum
    from hesse.spectra.condition import condition_number
    from hesse.spectra.density import density
    from hesse.spectra.diagonal import EstimatedDiagonal, estimated_diagonal
    from hesse.spectra.eigenpairs import Eigenpairs, eigenpairs
    from hesse.spectra.estimate import Estimate
    from hesse.spectra.layers import layers
    from hesse.spectra.logdet import effective_dimension, logdet
    from hesse.spectra.trace import squared_norm, trace

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
    "ErrorCurve",
    "Estimate",
    "EstimatedDiagonal",
    "Formula",
    "FunctionOperator",
    "HeatMap",
    "HesseError",
    "HessianOperator",
    "JacobianOperator",
    "Layers",
    "Layout",
    "LinearOperator",
    "LowRank",
    "Network",
    "PerSample",
    "Plan",
    "Plane",
    "QuadraticModel",
    "SampledFisher",
    "Slice",
    "Solution",
    "Spectrum",
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
    "solve",
    "squared_norm",
    "status",
    "trace",
    "value",
]


# Formulas, pictures and spectra are fetched when they are first asked for: what wants a Hessian
# should not wait for them.
_LATER = {
    "derive": "hesse.derivation.derive",
    "Derivation": "hesse.derivation.derivation",
    "Convexity": "hesse.derivation.convexity.verdict",
    "DerivedHessian": "hesse.derivation.hessian",
    "Formula": "hesse.derivation.formula",
    "Network": "hesse.derivation.sources.networks.network",
    "Eigenpairs": "hesse.spectra.eigenpairs",
    "Estimate": "hesse.spectra.estimate",
    "EstimatedDiagonal": "hesse.spectra.diagonal",
    "condition_number": "hesse.spectra.condition",
    "density": "hesse.spectra.density",
    "effective_dimension": "hesse.spectra.logdet",
    "eigenpairs": "hesse.spectra.eigenpairs",
    "estimated_diagonal": "hesse.spectra.diagonal",
    "layers": "hesse.spectra.layers",
    "logdet": "hesse.spectra.logdet",
    "squared_norm": "hesse.spectra.trace",
    "trace": "hesse.spectra.trace",
    **dict.fromkeys(
        ("Density", "ErrorCurve", "HeatMap", "Layers", "Plane", "Slice", "Spectrum"), "hesse.plot"
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'hesse' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
