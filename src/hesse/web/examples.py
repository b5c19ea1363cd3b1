"""Costs to begin with."""

from dataclasses import dataclass

from hesse.web.question import Question


@dataclass(frozen=True)
class Example:
    """A question with a name."""

    title: str
    question: Question


EXAMPLES = tuple(
    Example(title, Question(**fields))
    for title, fields in (
        (
            "Two-layer network",
            {"cost": "1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", "wrt": "W1, W2"},
        ),
        ("Least squares", {"cost": "1/2*sum((y - X @ w)**2)", "wrt": "w"}),
        ("Ridge regression", {"cost": "1/2*sum((y - X @ w)**2) + lam/2*w.T @ w", "wrt": "w"}),
        (
            "Logistic regression",
            {"cost": "sum(softplus(X @ w) - y * (X @ w))", "wrt": "w"},
        ),
        (
            "Softmax regression",
            {"cost": "-sum(y * log(softmax(W @ x)))", "wrt": "W", "given": "sum(y) == 1"},
        ),
        ("Matrix factorisation", {"cost": "1/2*sum((M - U @ V.T)**2)", "wrt": "U, V"}),
        ("Quadratic form", {"cost": "x @ A @ x", "wrt": "x"}),
        ("Rayleigh quotient", {"cost": "(x @ A @ x)/(x @ x)", "wrt": "x", "given": "A == A.T"}),
        (
            "Gaussian likelihood",
            {
                "cost": "1/2*logdet(S) + 1/2*(x - mu).T @ inv(S) @ (x - mu)",
                "wrt": "mu, S",
            },
        ),
        (
            "Gaussian process likelihood",
            {
                "cost": "1/2*y @ inv(exp(-l*D) + s*eye(n)) @ y + 1/2*logdet(exp(-l*D) + s*eye(n))",
                "wrt": "l, s",
            },
        ),
        ("Poisson regression", {"cost": "sum(exp(X @ b) - y * (X @ b))", "wrt": "b"}),
        ("Attention of one query", {"cost": "1/2*sum((y - V.T @ softmax(K @ q))**2)", "wrt": "q"}),
        ("A network in words", {"network": "2-3-1, sigmoid, half_sse"}),
    )
)
