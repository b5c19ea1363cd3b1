"""Least squares, ridge, factorisations."""

from derivation.questions.question import Question as Q

REGRESSION = [
    Q(
        "(y-X@w).T@(y-X@w) + lam*w.T@w",
        "w",
        {"w": ("2 (XᵀX + lam I)", "2*(X.T@X + lam*eye(w.size))")},
        "Hastie, Tibshirani and Friedman 2009, section 3.4.1",
        numbers="lam",
    ),
    Q(
        "lam*sum(w**2) + sum((y-X@w)**2)",
        "w",
        {"w": ("2 (XᵀX + lam I)", "2*(X.T@X + lam*eye(w.size))")},
        "Hastie, Tibshirani and Friedman 2009, section 3.4.1",
    ),
    Q(
        "1/2*norm2(A@x-b)**2 + lam*norm2(x)**2",
        "x",
        {"x": ("AᵀA + 2 lam I", "A.T@A + 2*lam*eye(x.size)")},
        "Boyd and Vandenberghe 2004, section 6.3.2",
    ),
    Q(
        "(y-X@w).T@W@(y-X@w)",
        "w",
        {"w": ("Xᵀ (W + Wᵀ) X", "X.T@(W + W.T)@X")},
        "Petersen and Pedersen 2012, section 2.4",
    ),
    Q("sum(v*(y-X@w)**2)", "w", {"w": ("2 Xᵀ diag(v) X", "2*X.T@diag(v)@X")}, "by hand"),
    Q(
        "sum((y-(a*x+b))**2)",
        "a b",
        {"a": ("2 xᵀx", "2*sum(x**2)"), "a b": ("2 1ᵀ x", "2*sum(x)"), "b": ("2 d", "2*x.size")},
        "by hand",
        numbers="a b",
    ),
    Q(
        "sum((y-X@w-b)**2)",
        "w b",
        {"w": ("2 XᵀX", "2*X.T@X"), "w b": ("2 Xᵀ 1", "2*sum(X, 0)"), "b": ("2 h", "2*y.size")},
        "by hand",
        numbers="b",
    ),
    Q("1/2*(w.T@x-y)**2", "w", {"w": ("x xᵀ", "outer(x, x)")}, "by hand"),
    Q(
        "sum((A@x)**4)",
        "x",
        {"x": ("12 Aᵀ diag((A x)^∘2) A", "12*A.T@diag((A@x)**2)@A")},
        "by hand",
    ),
    Q(
        "norm2(A@X-B)**2",
        "X",
        {"X": ("2 AᵀA ⊗ I", "kron(eye(X.shape[1]), 2*A.T@A)")},
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "norm2(X@A-B)**2",
        "X",
        {"X": ("2 I ⊗ A Aᵀ", "kron(2*A@A.T, eye(X.shape[0]))")},
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "1/2*norm2(X-U@V.T)**2",
        "U V",
        {
            "U": ("I ⊗ VᵀV", "kron(V.T@V, eye(U.shape[0]))"),
            "U V": (
                "(U ⊗ Vᵀ) K − R ⊗ I",
                "kron(V.T, U)@commutation(V) - kron(eye(U.shape[1]), X - U@V.T)",
            ),
            "V": ("I ⊗ UᵀU", "kron(U.T@U, eye(V.shape[0]))"),
        },
        "by hand",
    ),
    Q(
        "sum(relu(1-y*(X@w))**2)",
        "w",
        {"w": ("2 Xᵀ diag(step(z) ∘ y^∘2) X", "2*X.T@diag(y**2*(y*(X@w) < 1))@X")},
        "by hand",
    ),
]
