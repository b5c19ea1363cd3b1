"""What of a cost's second derivatives is asked for: a curvature is an object, one file each, found
by its name.

A new one is a file here, which registers it, and a line below, which loads the file.
"""

# For its effect: loading a module registers its curvature.
from hesse.curvatures import fisher, gauss_newton, hessian

__all__ = ["fisher", "gauss_newton", "hessian"]
