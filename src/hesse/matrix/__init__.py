"""The result: a Hessian by blocks, how it is printed and kept in a file."""
