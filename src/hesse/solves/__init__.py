"""Linear systems with a curvature: (A + damping I) x = b, inverses and covariances."""
