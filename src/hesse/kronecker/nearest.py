"""The Kronecker product that is nearest to a sum of some."""

import torch

from hesse.kronecker.block import Factor


def nearest_product(pairs: list[tuple[Factor, Factor]]) -> tuple[Factor, Factor]:
    """B ⊗ A nearest in Frobenius norm to Σ_j B_j ⊗ A_j, by the first singular pair of
    Σ_j vec(B_j) vec(A_j)ᵀ, for each group. It is positive semidefinite where all are.

    Source: C. F. Van Loan, N. Pitsianis, Approximation with Kronecker products (1993).

    Examples:
        >>> import torch
        >>> one, two = (Factor(k * torch.eye(2).unsqueeze(0)) for k in (1.0, 2.0))
        >>> B, A = nearest_product([(one, one), (two, two)])
        >>> bool((torch.kron(B.matrix[0], A.matrix[0]) - 5 * torch.eye(4)).abs().max() < 1e-5)
        True
    """
    lefts, rights = (torch.stack([pair[side].matrix for pair in pairs], 1) for side in (0, 1))
    # (g, j, j): everything happens among the few terms.
    gram_left, gram_right = (part.flatten(2) @ part.flatten(2).mT for part in (lefts, rights))
    values, vectors = torch.linalg.eigh(gram_left)
    root = (vectors * values.clamp(min=0).sqrt().unsqueeze(1)) @ vectors.mT
    _, directions = torch.linalg.eigh(root @ gram_right @ root)
    # The singular vector as a combination of the B_j: root⁻¹ w, up to its length; root G w has no
    # inverse in it, for w is an eigenvector of root G root.
    combined = (gram_right @ root @ directions[..., -1:]).squeeze(2)
    combined = combined * combined.sum(1, keepdim=True).sign()
    left = torch.einsum("gj,gjab->gab", combined, lefts)
    # Given B, the best A is Σ_j ⟨B_j, B⟩ A_j / ⟨B, B⟩.
    weights = (gram_left @ combined.unsqueeze(2)).squeeze(2)
    norm = (combined * weights).sum(1, keepdim=True).clamp(min=torch.finfo(left.dtype).tiny)
    right = torch.einsum("gj,gjab->gab", weights / norm, rights)
    return Factor(left), Factor(right)
