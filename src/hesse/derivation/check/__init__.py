"""Whether a line is true: both its sides at random points, and whole blocks beside automatic
differentiation."""
