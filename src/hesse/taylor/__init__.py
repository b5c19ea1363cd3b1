"""The quadratic model of a cost, and the steps people take with it."""

from hesse.taylor.construction import quadratic
from hesse.taylor.minimization import minimize
from hesse.taylor.model import QuadraticModel
from hesse.taylor.points import Iterate
from hesse.taylor.stationary import StationaryPoint
from hesse.taylor.step import Step
from hesse.taylor.trust import Trust

__all__ = ["Iterate", "QuadraticModel", "StationaryPoint", "Step", "Trust", "minimize", "quadratic"]
