"""What people ask of a symmetric matrix that is known by its products: eigenpairs, traces,
densities and other scalars, exact where that costs less, and else with a standard error."""
