"""The exact Hessian of a cost: planned, computed block by block, laid into the result."""
