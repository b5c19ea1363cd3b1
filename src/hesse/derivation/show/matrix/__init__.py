"""The matrix reading of an index expression: ``2 Σ_k [i = j] V[k,o] V[k,p]`` as ``2 I ⊗ VᵀV``.

Conventions. A parameter of shape h × d is counted row by row: entry (o, i) is number o·d + i of
vec(W), so that A ⊗ B has the entry A[o,p] B[i,j] in row (o, i) and column (p, j). (Texts that stack
columns write the two Kronecker factors the other way round.) A vector is one column.
"""

from hesse.derivation.show.matrix.evaluation import evaluate
from hesse.derivation.show.matrix.nodes import Matrix
from hesse.derivation.show.matrix.recognise import matrix_form

__all__ = ["Matrix", "evaluate", "matrix_form"]
