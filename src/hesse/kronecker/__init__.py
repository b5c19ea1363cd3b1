"""Kronecker-factored curvature: K-FAC, EKFAC and FOOF of any cost that hesse captures, from the
sites of its graph rather than from kinds of modules."""
