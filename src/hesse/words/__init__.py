"""The words that arguments take, as types: what an editor offers.

What each stands for is in the registry that has it, and a test holds the two together. Signatures
say ``| str`` beside most: a word may be read from a file, or be entered by the user."""

from typing import Literal

# losses.names: short ones, then those of torch.nn.functional.
LossName = Literal[
    "half_sse",
    "mse",
    "cross_entropy",
    "bce",
    "mse_loss",
    "l1_loss",
    "huber_loss",
    "smooth_l1_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "poisson_nll_loss",
    "gaussian_nll_loss",
    "soft_margin_loss",
    "kl_div",
    "hinge_embedding_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
]
NetworkLoss = Literal["half_sse", "mse", "cross_entropy", "bce"]
Reduction = Literal["mean", "sum"]
CurvatureName = Literal[
    "hessian", "gauss_newton", "functional", "fisher", "fisher_mc", "empirical_fisher"
]
SampleQuantity = Literal["gradient", "diagonal", "hessian"]
# Of spectra: how an answer is come by, of which parts, and which eigenvalues.
SpectralMethod = Literal["auto", "exact", "estimate"]
Part = Literal["parameter", "layer"]
Which = Literal["largest", "smallest", "both", "magnitude"]
# Of linear systems.
SolveMethod = Literal["cholesky", "eigh", "cg", "minres", "lsmr", "neumann"]
PreconditionerName = Literal["diagonal", "block_diagonal", "kfac"]
MinimizeMethod = Literal["trust-exact", "cubic", "trust-krylov", "trust-ncg", "dogleg", "Newton-CG"]
# Of K-FAC.
KroneckerKind = Literal["kfac", "ekfac", "foof"]
Sharing = Literal["expand", "reduce"]
DampedInverse = Literal["exact", "pi", "factors"]
# Of formulas.
ReadingName = Literal["scalar", "indices", "matrix"]
BackendName = Literal["numpy", "torch", "jax"]
# Of standard errors.
CovarianceKind = Literal["hessian", "sandwich"]
