"""The quadratic model of a cost, and the steps people take with it."""

from hesse.quadratic.minimize import minimize
from hesse.quadratic.model import QuadraticModel, quadratic
from hesse.quadratic.points import Iterate
from hesse.quadratic.stationary import StationaryPoint
from hesse.quadratic.step import Step
from hesse.quadratic.trust import Trust

__all__ = ["Iterate", "QuadraticModel", "StationaryPoint", "Step", "Trust", "minimize", "quadratic"]
