"""A formula as code: in which order it is computed, how it is printed for NumPy and torch, how it
is run."""
