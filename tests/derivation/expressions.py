"""One table of costs that every test of derivations runs over. A new operation joins by adding a
row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import hesse


@dataclass(frozen=True)
class Case:
    """A cost as a user would write it.

    Attributes:
        positive: the arrays must be, for a logarithm or a root.
        forms: by block, "u v" or "u", its matrix form to the letter, and the Hessian as it is
            published, in NumPy, never from hesse (`derivation.published`).
        source: where that is published, or "by hand".
    """

    name: str
    text: str
    wrt: str
    shapes: str | None = None
    given: tuple[str, ...] = ()
    positive: bool = False
    forms: Mapping[str, tuple[str, str]] = field(default_factory=dict, hash=False)
    source: str = ""

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(self.wrt.split())

    @property
    def derivation(self) -> hesse.Derivation:
        """Certified, once for all tests of one process."""
        return _derived(self)


@cache
def _derived(case: Case) -> hesse.Derivation:
    return hesse.derive(case.text, wrt=case.parameters, shapes=case.shapes, given=case.given)


CLOSED_FORMS = (
    Case("quadratic form", "x.T @ A @ x", "x"),
    Case("least squares", "1/2*sum((y - X @ w)**2)", "w"),
    Case("least squares by norm", "1/2*norm2(y - X @ w)**2", "w"),
    Case(
        "logistic regression",
        "-sum(y*log(sigmoid(X @ w)) + (1 - y)*log(1 - sigmoid(X @ w)))",
        "w",
        "X[n,d] w[d] y[n]",
    ),
    Case(
        "logistic regression by softplus",
        "sum(log(1 + exp(X @ w)) - y*(X @ w))",
        "w",
        "X[n,d] w[d] y[n]",
    ),
    Case(
        "logistic regression with signs", "mean(log(1 + exp(-y*(X @ w))))", "w", "X[n,d] w[d] y[n]"
    ),
    Case("cross entropy in the logits", "-sum(y*log(softmax(z)))", "z", given=("sum(y) == 1",)),
    Case("cross entropy, log_softmax", "-sum(y*log_softmax(z))", "z", given=("sum(y) == 1",)),
    Case(
        "cross entropy, samples",
        "-sum(Y*log_softmax(X @ W))",
        "W",
        "Y[n,k] X[n,d] W[d,k]",
        ("sum(Y) == 1",),
    ),
    Case(
        "matrix factorisation",
        "sum((Omega*(T - U @ V.T))**2)",
        "U V",
        "T[n,m] U[n,k] V[m,k]",
        ("Omega == 1",),
    ),
    Case("matrix completion", "sum((Omega*(T - U @ V.T))**2)", "U V", "T[n,m] U[n,k] V[m,k]"),
    Case("logsumexp", "logsumexp(z)", "z"),
    Case("logsumexp written out", "log(sum(exp(z)))", "z"),
    Case("log determinant", "logdet(X)", "X"),
    Case(
        "linear network of two layers",
        "1/2*sum((y - W2 @ W1 @ x)**2)",
        "W1 W2",
        "W1[h,d] W2[m,h] x[d] y[m]",
    ),
    Case("network of two layers", "1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", "W1 W2"),
    Case("network of one weight a layer", "1/2*(y - f(w2*f(w1*x)))**2", "w1 w2"),
)

NETWORKS = (
    Case("two layers, sigmoid", "1/2*sum((y - sigmoid(W2 @ sigmoid(W1 @ x)))**2)", "W1 W2"),
    Case("two layers, biases", "1/2*sum((y - W2 @ tanh(W1 @ x + b1) - b2)**2)", "W1 b1 W2 b2"),
    Case("two layers, samples", "1/2*sum((Y - f(f(X @ W1) @ W2))**2)", "W1 W2"),
    Case("two layers, two functions", "1/2*sum((y - g(W2 @ f(W1 @ x)))**2)", "W1 W2"),
    Case("three layers", "1/2*sum((y - f(W3 @ f(W2 @ f(W1 @ x))))**2)", "W1 W2 W3"),
    Case("residual", "1/2*sum((y - f(W2 @ f(W1 @ x) + x))**2)", "W1 W2"),
    Case("tied weights", "1/2*sum((y - f(W @ f(W @ x)))**2)", "W"),
    Case("classifier", "-sum(y*log(softmax(W2 @ tanh(W1 @ x))))", "W1 W2", given=("sum(y) == 1",)),
    Case("classifier, target free", "-sum(y*log(softmax(W2 @ tanh(W1 @ x))))", "W1 W2"),
    Case("autoencoder", "1/2*sum((x - W.T @ f(W @ x))**2)", "W"),
    Case("gated unit", "1/2*sum((y - (W1 @ x)*sigmoid(W2 @ x))**2)", "W1 W2"),
    Case("attention of one query", "q.T @ V @ softmax(K @ q)", "q K", "q[d] V[d,n] K[n,d]"),
)

ELEMENTWISE = tuple(
    Case(name, f"sum(c*{name}(A @ x))", "A x", positive=name in ("log", "sqrt"))
    for name in (
        "exp",
        "log",
        "sqrt",
        "abs",
        "sin",
        "cos",
        "tanh",
        "sigmoid",
        "relu",
        "softplus",
        "gelu",
        "silu",
        "erf",
        "f",
    )
)

REDUCTIONS = (
    Case("sum of a vector", "sum(x)", "x"),
    Case("sum along rows", "sum(sum(A**2, axis=1)**2)", "A"),
    Case("sum along columns", "sum(sum(A, axis=0)*sin(b))", "A b", "A[n,d] b[d]"),
    Case("mean", "mean((X @ w - y)**2)", "w"),
    Case("mean along an axis", "sum(mean(A, axis=-1)**3)", "A"),
    Case("mean over a number of entries", "mean((A @ x)**2)", "x", "A[3,2] x[2]"),
    Case("norm", "norm2(x - c)", "x", "x[d] c[d]"),
    Case("norms of rows", "sum(norm2(A, axis=1))", "A"),
    Case("norm to the fourth", "norm2(A @ x)**4", "x"),
    Case("trace", "trace(A @ B @ A)", "A B", "A[n,n] B[n,n]"),
    Case("trace of a gram matrix", "trace(X.T @ X)", "X"),
    Case("determinant", "det(A)", "A"),
    Case("determinant of a gram matrix", "det(X.T @ X)", "X", "X[4,2]"),
    Case("log determinant of a gram matrix", "logdet(X.T @ X)", "X", "X[4,2]"),
    Case("inverse form", "b.T @ inv(A) @ b", "A b", "A[n,n] b[n]"),
    Case("trace of an inverse", "trace(inv(A) @ B)", "A", "A[n,n] B[n,n]"),
    Case("inverse of a transpose", "sum(inv(A.T)**2)", "A"),
    Case("Gaussian log-likelihood", "1/2*logdet(S) + 1/2*x.T @ inv(S) @ x", "S x", "S[n,n] x[n]"),
    Case("softmax of rows", "sum(C*softmax(Z))", "Z", "C[n,k] Z[n,k]"),
    Case("softmax of columns", "sum(C*softmax(Z, axis=0))", "Z", "C[n,k] Z[n,k]"),
    Case("log_softmax of columns", "sum(C*log_softmax(Z, axis=0)**2)", "Z", "C[n,k] Z[n,k]"),
    Case("logsumexp of rows", "sum(c*logsumexp(X @ W))", "W", "c[n] X[n,d] W[d,k]"),
    Case("logsumexp of columns", "sum(c*log(sum(exp(Z), axis=0)))", "Z", "c[k] Z[n,k]"),
    Case("softmax written out", "sum(c*exp(z)/sum(exp(z)))", "z", "c[k] z[k]"),
    Case("sum of exponentials of a matrix", "log(sum(exp(Z)))", "Z"),
)

SHAPES = (
    Case("scalars", "a*b**2 + sin(a)", "a b", "a[] b[]"),
    Case("scalar and vector", "exp(a)*sum(x**3)", "a x"),
    Case("scalar and matrix", "sum((Y - a*A @ X)**2)", "a A", "a[] Y[n,m] A[n,k] X[k,m]"),
    Case("row of a matrix", "sum((A*x + b)**2)", "A x b", "A[n,d] x[d] b[d]"),
    Case("column of a matrix", "sum((A - m)**3)", "A m", "A[n,d] m[n,1]"),
    Case("column beside a row", "sum(sin(u*v))", "u v", "u[n,1] v[d]"),
    Case("vector times matrix", "sum(f(x @ A))", "A x", "x[n] A[n,d]"),
    Case("outer product of matrices", "sum(sin(A @ B.T))", "A B", "A[n,k] B[m,k]"),
    Case("bilinear form", "u.T @ A @ v", "u A v"),
    Case("diagonal matrix", "x.T @ diag(w) @ x + sum(diag(A)**2)", "x w A", "x[n] w[n] A[n,n]"),
    Case("ridge on a determinant", "logdet(X.T @ X + lam*eye(d))", "X lam", "X[n,d] lam[]"),
    Case("identity of a number", "sum((A @ A - eye(3))**2)", "A", "A[3,3]"),
    Case("orthogonality", "1/4*sum((W.T @ W - eye(k))**2)", "W", "W[n,k]"),
    Case(
        "a size as a number",
        "1/(2*n)*sum((y - X @ w)**2) + lam/2*norm2(w)**2",
        "w lam",
        "X[n,d] y[n] w[d] lam[]",
    ),
    Case("three axes", "sum(sin(T)*a)", "T a", "T[2,3,2] a[3,2]"),
    Case("a batch of products", "sum((T @ A)**2)", "T A", "T[2,3,2] A[2,2]"),
    Case("data of size one", "sum((y - X @ w)**2)", "w", "X[1,1] w[1] y[1]"),
)

ARITHMETIC = (
    Case(
        "Rayleigh quotient",
        "x.T @ A @ x/(x.T @ x)",
        "x",
        forms={
            "x": (
                "(1/β) (A + Aᵀ − 2 λ I − 2 x gᵀ − 2 g xᵀ)",
                "quotient(x@A@x, (A + A.T)@x, A + A.T, x@x, 2*x, 2*eye(d))",
            )
        },
        source="by hand",
    ),
    Case("quotient", "sum(x/(1 + y**2))", "x y", "x[d] y[d]"),
    Case("power of a vector", "sum(x**y)", "x y", "x[d] y[d]", positive=True),
    Case("root", "sum(sqrt(1 + x**2))", "x"),
    Case("root of a square", "sqrt(x**2)", "x"),
    Case("negative power", "sum(x**-2)", "x", positive=True),
    Case("fractional power", "sum(x**1.5)", "x", positive=True),
    Case("number to a power", "sum(2**x)", "x"),
    Case("Gaussian", "exp(-norm2(x - c)**2/2)", "x"),
    Case("functions within functions", "sum(f(g(x)*h(x)))", "x", "x[d]"),
    Case("the same value twice", "(x.T @ A @ x)*exp(-x.T @ A @ x)", "x"),
    Case("the same residual twice", "(y - X @ w) @ (y - X @ w)", "w"),
    Case("Rosenbrock", "100*(b - a**2)**2 + (1 - a)**2", "a b"),
    Case("no second derivative", "c.T @ x", "x", "c[d] x[d]"),
    Case("a parameter that does not occur", "sum(x**2)", "x w", "w[3]"),
    Case("letters that are not ASCII", "sum((θ - μ)**2*σ)", "θ σ", "θ[d] μ[d] σ[]"),
    Case("names that indices like", "sum((i*A @ j - o)**2)", "i j A", "i[] A[p,k] j[k] o[p]"),
)

# As people ask them, in their own words.
WORDS = (
    *(
        Case(name, f"sum(c*{name}(x))", "x", positive=name in ("lgamma", "digamma", "log1p"))
        for name in (
            *("tan", "sinh", "cosh", "atan", "asinh", "arctan", "log1p", "expm1", "erfc"),
            *("normcdf", "normpdf", "lgamma", "digamma"),
        )
    ),
    Case("arcsine", "sum(asin(x/3))", "x"),
    Case("arccosine", "sum(arccos(x/3))", "x"),
    Case("inverse hyperbolic cosine", "sum(acosh(2 + x**2))", "x"),
    Case("inverse hyperbolic tangent", "sum(atanh(x/4))", "x"),
    Case("log odds", "sum(logit(sigmoid(x)/2))", "x"),
    Case("hinge loss", "sum(max(0, 1 - y*(X @ w)))", "w", "X[n,d] w[d] y[n]"),
    Case("squared hinge loss", "sum(max(0, 1 - y*(X @ w))**2)", "w", "X[n,d] w[d] y[n]"),
    Case("the larger of two", "sum(maximum(x, y)**2)", "x y", "x[d] y[d]"),
    Case("the smaller of two", "sum(minimum(x, 1/2)**2)", "x"),
    Case("negative part", "sum(min(0, x)**2)", "x"),
    Case("pinball loss", "sum(max(q*r, (q - 1)*r)*r)", "r", "r[n] q[]"),
    Case("clipped", "sum(clip(x, -1/2, 1/2)**2*c)", "x", "x[d] c[d]"),
    Case("clamped ratio", "sum(A*clip(exp(x - y), 4/5, 6/5))", "x", "x[d] y[d] A[d]"),
    Case("huber", "sum(huber(y - X @ w))", "w", "X[n,d] w[d] y[n]"),
    Case("huber of another width", "sum(huber(y - X @ w, 3/2))", "w", "X[n,d] w[d] y[n]"),
    Case("pieces", "sum(where(x > 0, x**3, 2*x**2))", "x"),
    Case("asymmetric squares", "sum(where(r < 0, t*r**2, (1 - t)*r**2))", "r", "r[n] t[]"),
    Case("exponential unit", "sum(where(x >= 0, x, exp(x) - 1)**2)", "x"),
    Case("variance", "var(X @ w)", "w", "X[n,d] w[d]"),
    Case("variance of scaled columns", "var(x*A)", "x"),
    Case("scaled columns about their mean", "sum((A*x - mean(A*x))**2)", "x"),
    Case("variance of columns", "sum(var(X, axis=0)**2)", "X"),
    Case("variance of rows", "sum(var(X, axis=1))", "X"),
    Case("deviation", "std(x)", "x"),
    Case(
        "weighted least squares",
        "average((y - X @ w)**2, weights=c)",
        "w",
        "X[n,d] y[n] c[n]",
        positive=True,
    ),
    Case("weighted mean", "average(x, c)**2", "c", "x[n] c[n]", positive=True),
    Case("Frobenius norm", "norm(A @ X - B, 'fro')**2", "X"),
    Case("norm", "norm(A @ x - b)", "x"),
    Case("norms of columns", "sum(norm(X, axis=0))", "X"),
    Case("norm of the rank one remainder", "norm(A - outer(u, v))**2", "u v", "A[m,n] u[m] v[n]"),
    Case("outer product", "trace(outer(x, x) @ A)", "x"),
    Case("exponential of an outer product", "sum(exp(outer(u, v)))", "u v"),
    Case("Bradley–Terry", "-sum(N*log(sigmoid(b[:, None] - b[None, :])))", "b", "N[n,n] b[n]"),
    Case(
        "Bradley–Terry by strengths",
        "-sum(N*log(b[:, None]/(b[:, None] + b[None, :])))",
        "b",
        "N[n,n] b[n]",
        positive=True,
    ),
    Case("pairwise distances", "sum((x[:, None] - x[None, :])**2*K)", "x", "x[n] K[n,n]"),
    Case("Gaussian kernel", "y @ exp(-(x[:, None] - x[None, :])**2/2) @ y", "x", "x[n] y[n]"),
    Case("column added to a matrix", "sum(exp(A + b[:, None]))", "A b", "A[n,m] b[n]"),
    Case("quadratic form by einsum", "einsum('i,ij,j->', x, A, x)", "x"),
    Case("trace by einsum", "einsum('ii->', A @ A)", "A", "A[n,n]"),
    Case(
        "bilinear by einsum", "sum(einsum('ni,ij,nj->n', X, W, Y)**2)", "W", "X[n,d] W[d,k] Y[n,k]"
    ),
    Case(
        "batched product by einsum",
        "sum(einsum('bij,bjk->bik', A, B)**2)",
        "A B",
        "A[2,2,3] B[2,3,2]",
    ),
    Case("diagonal by einsum", "sum(einsum('ii->i', A)**3)", "A", "A[n,n]"),
    Case(
        "negative binomial",
        "-sum(lgamma(x + r) - lgamma(r) + r*log(sigmoid(q)) + x*log(1 - sigmoid(q)))",
        "r q",
        "x[n] r[] q[]",
        positive=True,
    ),
    Case(
        "Gamma likelihood",
        "-sum(a*log(b) - lgamma(a) + (a - 1)*log(x) - b*x)",
        "a b",
        "x[n] a[] b[]",
        positive=True,
    ),
    Case(
        "Beta likelihood",
        "-sum((a - 1)*log(x)) + n*(lgamma(a) + lgamma(b) - lgamma(a + b))",
        "a b",
        "x[n] a[] b[]",
        positive=True,
    ),
    Case(
        "Dirichlet likelihood",
        "sum(lgamma(a)) - lgamma(sum(a)) - sum((a - 1)*log(x))",
        "a",
        "a[k] x[k]",
        positive=True,
    ),
    Case(
        "Poisson likelihood",
        "sum(exp(X @ w) - y*(X @ w) + lgamma(y + 1))",
        "w",
        "X[n,d] w[d] y[n]",
        positive=True,
    ),
    Case(
        "Student likelihood",
        "sum((nu + 1)/2*log1p((y - X @ w)**2/nu))",
        "w",
        "X[n,d] w[d] y[n] nu[]",
        positive=True,
    ),
    Case("probit", "-sum(log(normcdf(s*(X @ w))))", "w", "X[n,d] w[d] s[n]"),
    Case("tobit", "sum(log(normcdf(a)) + (y - a)**2)", "a", "a[n] y[n]"),
    Case("log-cosh loss", "sum(log(cosh(y - X @ w)))", "w", "X[n,d] w[d] y[n]"),
    Case("Cauchy loss", "sum(log1p((y - X @ w)**2))", "w", "X[n,d] w[d] y[n]"),
    Case(
        "expected improvement",
        "sum((m - b)*normcdf((m - b)/s) + s*normpdf((m - b)/s))",
        "m",
        "m[n] b[] s[n]",
        positive=True,
    ),
    Case("catenary", "sum(cosh(x)*c)", "x", "x[n] c[n]"),
    Case("phase", "sum((y - arctan(a*x))**2)", "a", "x[n] y[n] a[]"),
)

# Slices, differences and sums of entries, products of many.
PLACES = (
    Case(
        "total variation",
        "sum((x[1:] - x[:-1])**2)",
        "x",
        forms={"x": ("2 DᵀD", "2*laplacian(d)")},
        source="Boyd and Vandenberghe 2004, section 6.3.3",
    ),
    Case(
        "differences",
        "sum(diff(x)**2)",
        "x",
        forms={"x": ("2 DᵀD", "2*laplacian(d)")},
        source="Boyd and Vandenberghe 2004, section 6.3.3",
    ),
    Case(
        "curvature penalty",
        "sum((x[2:] - 2*x[1:-1] + x[:-2])**2)",
        "x",
        forms={"x": ("2 DᵀD", "2*diff(eye(d), 2).dot(diff(eye(d), 2).T)")},
        source="Boyd and Vandenberghe 2004, section 6.3.3",
    ),
    Case(
        "signal and its smoothness",
        "norm2(y - x)**2 + lam*sum((x[1:] - x[:-1])**2)",
        "x",
        forms={"x": ("2 (I + lam DᵀD)", "2*eye(d) + 2*lam*laplacian(d)")},
        source="Boyd and Vandenberghe 2004, section 6.3.3",
    ),
    Case(
        "smooth total variation",
        "sum(sqrt(s + (x[1:] - x[:-1])**2))",
        "x",
        "x[n] s[]",
        positive=True,
    ),
    Case(
        "total variation of an image",
        "sum((X[1:] - X[:-1])**2) + sum((X[:, 1:] - X[:, :-1])**2)",
        "X",
        "X[n,m]",
        forms={
            "X": (
                "2 (D1ᵀD1 ⊗ I + I ⊗ DᵀD)",
                "2*kron(eye(m), laplacian(n)) + 2*kron(laplacian(m), eye(n))",
            )
        },
        source="by hand",
    ),
    Case(
        "autoregression",
        "sum((y[1:] - a*y[:-1])**2)",
        "a",
        "y[n] a[]",
        forms={"a": ("2 yᵀ SᵀS y", "2*sum(y[:-1]**2)")},
        source="by hand",
    ),
    Case("neighbours", "sum(x[1:]*x[:-1])", "x"),
    Case("Rosenbrock of many", "sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)", "x"),
    Case(
        "first and last",
        "x[0]*x[-1]",
        "x",
        forms={
            "x": (
                "e_last e_0ᵀ + e_0 e_lastᵀ",
                "outer(eye(d)[0], eye(d)[-1]) + outer(eye(d)[-1], eye(d)[0])",
            )
        },
        source="by hand",
    ),
    Case("Rosenbrock by entries", "100*(x[1] - x[0]**2)**2 + (1 - x[0])**2", "x", "x[2]"),
    Case(
        "one row",
        "sum((X[0] - y)**2)",
        "X",
        forms={"X": ("2 e_0 e_0ᵀ ⊗ I", "kron(2*eye(d), diag(eye(len(X))[0]))")},
        source="by hand",
    ),
    Case("two columns", "sum(X[:, 0]*exp(X[..., -1]))", "X"),
    Case("the first three", "sum(x[:3]**4)", "x", "x[n]"),
    Case("mean of some", "mean(x[1:]**3)", "x"),
    Case("an axis in front", "sum(K*(b[:, None] - b[None])**2)", "b", "b[n] K[n,n]"),
    Case(
        "sums so far",
        "sum(cumsum(x)**2)",
        "x",
        forms={"x": ("2 LᵀL", "2*tri(d).T@tri(d)")},
        source="by hand",
    ),
    Case("sums along rows", "sum(exp(cumsum(X, axis=1)))", "X"),
    Case(
        "product",
        "prod(x)",
        "x",
        forms={
            "x": (
                "prod(x) (x^∘(−1) (x^∘(−1))ᵀ − diag(x^∘(−2)))",
                "prod(x)*(outer(1/x, 1/x) - diag(x**-2))",
            )
        },
        source="by hand",
    ),
    Case(
        "geometric mean",
        "prod(x)**(1/n)",
        "x",
        "x[n]",
        positive=True,
        forms={
            "x": (
                "prod(x)^(1/n) ((1/n²) x^∘(−1) (x^∘(−1))ᵀ − (1/n) diag(x^∘(−2)))",
                "-prod(x)**(1/n)/n**2*(n*diag(x**-2) - outer(1/x, 1/x))",
            )
        },
        source="Boyd and Vandenberghe 2004, section 3.1.5",
    ),
    Case(
        "barrier of a product",
        "-log(prod(x))",
        "x",
        positive=True,
        forms={"x": ("diag(x^∘(−2))", "diag(x**-2)")},
        source="Boyd and Vandenberghe 2004, section 11.2",
    ),
    Case("products of columns", "sum(prod(X, axis=0)**2)", "X"),
    Case("product of all", "prod(X)", "X"),
    Case("Kronecker product", "trace(kron(A, B) @ C)", "A B C"),
    Case(
        "nearest Kronecker product",
        "norm2(kron(A, B) - C)**2",
        "A B",
        forms={
            "A": ("2 tr(B Bᵀ) I", "2*norm(B)**2*eye(A.size)"),
            "B": ("2 tr(A Aᵀ) I", "2*norm(A)**2*eye(B.size)"),
        },
        source="by hand",
    ),
    Case(
        "norm of a Kronecker product",
        "sum(kron(u, v)**2)",
        "u v",
        forms={"u v": ("4 u vᵀ", "4*outer(u, v)")},
        source="by hand",
    ),
)

# Densities whose logarithm is taken apart: the observed information of Casella and Berger 2002,
# section 7.3.
DENSITIES = (
    Case(
        "exponential",
        "-log(l*exp(-l*x))",
        "l",
        "l[] x[]",
        forms={"l": ("1/l²", "1/l**2")},
        source="Casella and Berger 2002, section 7.3",
    ),
    Case(
        "Poisson",
        "-log(lam**x*exp(-lam))",
        "lam",
        "lam[] x[]",
        positive=True,
        forms={"lam": ("x/lam²", "x/lam**2")},
        source="Casella and Berger 2002, section 7.3",
    ),
    Case(
        "Weibull",
        "-log(k/l*(x/l)**(k-1)*exp(-(x/l)**k))",
        "k l",
        "k[] l[] x[]",
        positive=True,
        forms={
            "k": ("1/k² + (x/l)^k log(x/l)²", "1/k**2 + (x/l)**k*log(x/l)**2"),
            "k l": ("(1 − (x/l)^k (1 + k log(x/l)))/l", "(1 - (x/l)**k)/l - k/l*(x/l)**k*log(x/l)"),
            "l": ("k ((x/l)^k (1 + k) − 1)/l²", "(k/l)**2*(x/l)**k - k/l**2*(1 - (x/l)**k)"),
        },
        source="by hand",
    ),
    Case(
        "Gamma",
        "-log(b**a*x**(a-1)*exp(-b*x))",
        "a b",
        "a[] b[] x[]",
        positive=True,
        forms={"a": ("0", "0"), "a b": ("−1/b", "-1/b"), "b": ("a/b²", "a/b**2")},
        source="Casella and Berger 2002, section 7.3",
    ),
    Case(
        "normal",
        "-log(exp(-(x-mu)**2/(2*s**2))/s)",
        "mu s",
        "mu[] s[] x[]",
        positive=True,
        forms={
            "mu": ("1/s²", "1/s**2"),
            "mu s": ("2 (x − mu)/s³", "2*(x - mu)/s**3"),
            "s": ("3 (x − mu)²/s⁴ − 1/s²", "3*(x - mu)**2/s**4 - 1/s**2"),
        },
        source="Casella and Berger 2002, section 7.3",
    ),
    Case(
        "Pareto",
        "-log(a*m**a/x**(a+1))",
        "a",
        "a[] m[] x[]",
        positive=True,
        forms={"a": ("1/a²", "1/a**2")},
        source="Casella and Berger 2002, section 7.3",
    ),
    Case(
        "logistic distribution",
        "-log(exp(-z)/(1+exp(-z))**2)",
        "z",
        "z[]",
        forms={"z": ("2 σ(z) (1 − σ(z))", "2*dsigmoid(z)")},
        source="by hand",
    ),
    Case(
        "log of a product",
        "log(x*y)",
        "x y",
        "x[] y[]",
        positive=True,
        forms={"x": ("−1/x²", "-1/x**2"), "x y": ("0", "0")},
        source="by hand",
    ),
    Case(
        "log of a square",
        "log(x**2)",
        "x",
        "x[]",
        forms={"x": ("−2/x²", "-2/x**2")},
        source="by hand",
    ),
    Case(
        "log of a norm",
        "log(norm2(x))",
        "x",
        forms={"x": ("(1/n²) I − (2/n⁴) x xᵀ", "(eye(d) - 2*outer(x, x)/(x@x))/(x@x)")},
        source="by hand",
    ),
    Case(
        "declared positive",
        "log(x/y)*z",
        "x",
        "x[] y[] z[]",
        ("x > 0", "y > 0"),
        forms={"x": ("−z/x²", "-z/x**2")},
        source="by hand",
    ),
)

# What is declared of matrices is used (Petersen and Pedersen 2012, the Matrix Cookbook, 2.4).
DECLARED = (
    Case(
        "symmetric",
        "x.T@A@x",
        "x",
        given=("A == A.T",),
        forms={"x": ("2 A", "A + A.T")},
        source="Petersen and Pedersen 2012, section 2.4",
    ),
    Case(
        "symmetric, bilinear",
        "y.T@A@x + x.T@A@y",
        "x y",
        given=("A == A.T",),
        forms={"x": ("0", "zeros((d, d))"), "x y": ("2 A", "A + A.T")},
        source="Petersen and Pedersen 2012, section 2.4",
    ),
    Case(
        "symmetric, twice",
        "x.T@A@A@x",
        "x",
        given=("A == A.T",),
        forms={"x": ("2 A A", "A@A + (A@A).T")},
        source="Petersen and Pedersen 2012, section 2.4",
    ),
    Case(
        "symmetric, trace",
        "trace(X.T@A@X)",
        "X",
        given=("A == A.T",),
        forms={"X": ("2 A ⊗ I", "kron(eye(X.shape[1]), A + A.T)")},
        source="Magnus and Neudecker 2019, chapter 10",
    ),
    Case(
        "positive definite",
        "1/2*(x-mu).T@inv(S)@(x-mu)",
        "x",
        given=("S > 0",),
        forms={"x": ("S⁻¹", "inv(S)")},
        source="Petersen and Pedersen 2012, section 2.4",
    ),
    Case(
        "diagonal",
        "x.T@D@x",
        "x",
        given=("D == diag(diag(D))",),
        forms={"x": ("2 D", "D + D.T")},
        source="Petersen and Pedersen 2012, section 2.4",
    ),
    Case(
        "orthogonal",
        "norm2(Q@x - b)**2",
        "x",
        "Q[d,d] x[d] b[d]",
        ("Q.T @ Q == eye(d)",),
        forms={"x": ("2 I", "2*Q.T@Q")},
        source="by hand",
    ),
    Case(
        "Gaussian process, symmetric kernel",
        "1/2*y.T@inv(K+s*eye(n))@y + 1/2*logdet(K+s*eye(n))",
        "s",
        "s[] K[n,n] y[n]",
        ("K == K.T",),
        forms={
            "s": (
                "yᵀ u1⁻¹ u1⁻¹ u1⁻¹ y − ½ tr(u1⁻¹ u1⁻¹)",
                "y@power(inv(K + s*eye(n)), 3)@y - trace(power(inv(K + s*eye(n)), 2))/2",
            )
        },
        source="Rasmussen and Williams 2006, equation 5.9, differentiated once more",
    ),
)

# Written in the names of their parts: the Rayleigh quotient as in Absil, Mahony and Sepulchre 2008,
# section 2.1, with g its gradient.
NAMED = (
    Case(
        "Rayleigh quotient, symmetric",
        "x.T@A@x/(x.T@x)",
        "x",
        given=("A == A.T",),
        forms={
            "x": (
                "(2/β) (A − λ I − x gᵀ − g xᵀ)",
                "quotient(x@A@x, 2*A@x, 2*A, x@x, 2*x, 2*eye(d))",
            )
        },
        source="by hand",
    ),
    Case(
        "Rayleigh quotient, generalised",
        "x.T@A@x/(x.T@B@x)",
        "x",
        given=("A == A.T", "B > 0"),
        forms={
            "x": (
                "(2/β) (A − λ B − B x gᵀ − g xᵀ B)",
                "quotient(x@A@x, 2*A@x, 2*A, x@B@x, 2*B@x, 2*B)",
            )
        },
        source="by hand",
    ),
    Case(
        "total least squares",
        "norm2(X@w - y)**2/norm2(w)**2",
        "w",
        forms={
            "w": (
                "(2/β) (XᵀX − q I − w gᵀ − g wᵀ)",
                "quotient(norm(X@w - y)**2, 2*X.T@(X@w - y), 2*X.T@X, w@w, 2*w, 2*eye(d))",
            )
        },
        source="by hand",
    ),
    Case(
        "Sharpe ratio",
        "(w.T@mu)/sqrt(w.T@S@w)",
        "w",
        given=("S > 0",),
        forms={
            "w": (
                "q ((3/s⁴) S w wᵀ S − (1/s²) S) − (1/s³) (S w muᵀ + mu wᵀ S)",
                "quotient(w@mu, mu, 0, *root(w@S@w, 2*S@w, 2*S))",
            )
        },
        source="by hand",
    ),
    Case(
        "cosine similarity",
        "(x.T@y)/(norm2(x)*norm2(y))",
        "x y",
        forms={
            "x": (
                "q ((3/n⁴) x xᵀ − (1/n²) I) − (1/(n³ n1)) (x yᵀ + y xᵀ)",
                "quotient(x@y, y, 0, *root(y@y*x@x, 2*y@y*x, 2*y@y*eye(d)))",
            ),
            "y": (
                "q ((3/n1⁴) y yᵀ − (1/n1²) I) − (1/(n n1³)) (y xᵀ + x yᵀ)",
                "quotient(x@y, x, 0, *root(x@x*y@y, 2*x@x*y, 2*x@x*eye(d)))",
            ),
        },
        source="by hand",
    ),
    Case(
        "norm of a residual",
        "norm2(A@x - b)",
        "x",
        forms={
            "x": (
                "Aᵀ ((1/n) I − (1/n³) r rᵀ) A",
                "root(norm(A@x - b)**2, 2*A.T@(A@x - b), 2*A.T@A)[-1]",
            )
        },
        source="by hand",
    ),
    Case(
        "Frobenius norm of a residual",
        "norm2(A@X - B)",
        "X",
        forms={
            "X": (
                "(1/n) AᵀA ⊗ I − (1/n³) vec(Aᵀ R) vec(Aᵀ R)ᵀ",
                "root(norm(A@X - B)**2, 2*vec(A.T@(A@X - B)), kron(2*eye(X.shape[1]), A.T@A))[-1]",
            )
        },
        source="by hand",
    ),
    Case(
        "deep linear network",
        "1/2*sum((Y - W3@W2@W1@X)**2)",
        "W1 W2 W3",
        forms={
            "W1": ("W2ᵀ W3ᵀW3 W2 ⊗ X Xᵀ", "kron(X@X.T, (W3@W2).T@W3@W2)"),
            "W1 W3": (
                "W2ᵀ W3ᵀ ⊗ X Xᵀ W1ᵀ W2ᵀ − (W2ᵀ ⊗ X Rᵀ) K",
                "kron(X@(W2@W1@X).T, (W3@W2).T) - kron(X@(Y - W3@W2@W1@X).T, W2.T)@commutation(W3)",
            ),
        },
        source="by hand",
    ),
    Case(
        "word2vec, negative sampling",
        "-log(sigmoid(u.T@v)) - sum(log(sigmoid(-U@v)))",
        "u v U",
        forms={
            "u v": (
                "p (1 − p) v uᵀ + (p − 1) I",
                "dsigmoid(u@v)*outer(v, u) + (sigmoid(u@v) - 1)*eye(d)",
            ),
            "v U": (
                "Uᵀ diag(ŷ ∘ (1 − ŷ)) ⊗ vᵀ + ŷᵀ ⊗ I",
                "kron(v, U.T@diag(dsigmoid(U@v))) + kron(sigmoid(U@v), eye(d))@commutation(U)",
            ),
        },
        source="by hand",
    ),
    Case(
        "InfoNCE",
        "-trace(log_softmax(A@B.T/tau))",
        "A",
        "tau[]",
        forms={
            "A": (
                "(1/tau²) blockdiag_o(Bᵀ (diag(p_o) − p_o p_oᵀ) B)",
                "sum([kron(B.T@dsoftmax(B@a/tau)@B, diag(e)) for a, e in zip(A, eye(len(A)))], 0)"
                "/tau**2",
            )
        },
        source="by hand",
    ),
    Case(
        "any power of a norm",
        "norm2(x)**p",
        "x",
        "p[]",
        forms={
            "x": (
                "p (n^(p − 4) (p − 2) x xᵀ + n^(p − 2) I)",
                "p*norm(x)**(p - 2)*(eye(d) + (p - 2)*outer(x, x)/(x@x))",
            )
        },
        source="by hand",
    ),
    Case(
        "log of a variance",
        "n/2*log(var(x))",
        "x",
        "x[n]",
        forms={
            "x": (
                "(1/u1) I − (1/n) ((2/u1²) c cᵀ + (1/u1) 1 1ᵀ)",
                "(lambda c: n*(eye(n) - 1/n - 2*outer(c, c)/(c@c))/(c@c))(x - sum(x)/n)",
            )
        },
        source="by hand",
    ),
    Case(
        "logarithm of a hyperbolic cosine",
        "sum(log(cosh(y - X@w)))",
        "w",
        forms={
            "w": (
                "Xᵀ (I − diag(u1^∘(−2) ∘ sinh(z)^∘2)) X",
                "X.T@diag(dtanh(y - X@w))@X",
            )
        },
        source="by hand",
    ),
    Case(
        "cross entropy at one class",
        "-log_softmax(z)[0]",
        "z",
        forms={"z": ("diag(p) − p pᵀ", "dsoftmax(z)")},
        source="Bishop 2006, equation 4.106, differentiated once more",
    ),
    Case(
        "swish",
        "sum(silu(W@x))",
        "W",
        forms={
            "W": (
                "diag(p ∘ (1 − p) ∘ (2 + z ∘ (1 − 2 p))) ⊗ x xᵀ",
                "kron(outer(x, x), diag(W@x*d2sigmoid(W@x) + 2*dsigmoid(W@x)))",
            )
        },
        source="by hand",
    ),
    Case(
        "square of a sigmoid",
        "sum(sigmoid(X@w)**2)",
        "w",
        forms={
            "w": (
                "2 Xᵀ diag(p^∘2 ∘ (1 − p) ∘ (2 − 3 p)) X",
                "2*X.T@diag(dsigmoid(X@w)**2 + sigmoid(X@w)*d2sigmoid(X@w))@X",
            )
        },
        source="by hand",
    ),
    Case(
        "powers of two",
        "sum(2**x)",
        "x",
        forms={"x": ("log(2)² diag(2^∘x)", "diag(log(2)**2*2**x)")},
        source="by hand",
    ),
)

CASES = (
    *CLOSED_FORMS,
    *NETWORKS,
    *ELEMENTWISE,
    *REDUCTIONS,
    *SHAPES,
    *ARITHMETIC,
    *DENSITIES,
    *DECLARED,
    *NAMED,
    *WORDS,
    *PLACES,
)
