"""Whether a cost is convex: the ranges of what stands in its Hessian, Gram matrices, and the
verdict."""
