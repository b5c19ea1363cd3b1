"""Automatic differentiation of a program as a person does it: one sweep forward for values, one
backward for δ, and the same two again for a product H v."""
