"""The formulas of a Hessian's blocks, derived line by line, each line certified."""
