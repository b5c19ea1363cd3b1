"""Quadratic and other forms, norms, traces, determinants, inverses; single neurons."""

from derivation.questions.question import Question as Q

FORMS = [
    Q(
        "1/2*x.T@A@x - b.T@x",
        "x",
        {"x": ("½ (A + Aᵀ)", "(A + A.T)/2")},
        "Petersen and Pedersen 2012, section 2.4",
    ),
    Q(
        "gamma/2*w.T@Sigma@w - mu.T@w",
        "w",
        {"w": ("½ gamma (Sigma + Sigmaᵀ)", "gamma*(Sigma + Sigma.T)/2")},
        "Petersen and Pedersen 2012, section 2.4",
        numbers="gamma",
    ),
    Q(
        "mu.T@w - gamma/2*w.T@S@w",
        "w",
        {"w": ("−½ gamma (S + Sᵀ)", "-gamma*(S + S.T)/2")},
        "Petersen and Pedersen 2012, section 2.4",
        numbers="gamma",
    ),
    Q("w.T@(lam*w)", "w", {"w": ("2 lam I", "2*lam*eye(w.size)")}, "by hand", numbers="lam"),
    Q(
        "(x.T@A@x)**2",
        "x",
        {
            "x": (
                "2 ((xᵀ A x) (A + Aᵀ) + (A + Aᵀ) x xᵀ (A + Aᵀ))",
                "2*(x@A@x)*(A + A.T) + 2*outer((A + A.T)@x, (A + A.T)@x)",
            )
        },
        "by hand",
    ),
    Q(
        "norm2(x)",
        "x",
        {"x": ("(1/n) I − (1/n³) x xᵀ", "(eye(x.size) - outer(x, x)/(x@x))/norm(x)")},
        "by hand",
    ),
    Q(
        "norm2(x)**3",
        "x",
        {"x": ("3 ((1/n) x xᵀ + n I)", "3*norm(x)*(eye(x.size) + outer(x, x)/(x@x))")},
        "by hand",
    ),
    Q(
        "norm2(x)**4",
        "x",
        {"x": ("8 x xᵀ + 4 (xᵀx) I", "4*(x@x)*eye(x.size) + 8*outer(x, x)")},
        "by hand",
    ),
    Q(
        "sqrt(1+x.T@x)",
        "x",
        {"x": ("(1/s) I − (1/s³) x xᵀ", "eye(x.size)/sqrt(1 + x@x) - outer(x, x)/(1 + x@x)**1.5")},
        "by hand",
    ),
    Q("exp(w.T@x)", "w", {"w": ("exp(z) x xᵀ", "exp(w@x)*outer(x, x)")}, "by hand"),
    Q(
        "exp(-norm2(x-c)**2/(2*s2))",
        "x",
        {
            "x": (
                "exp(u1) ((1/s2²) (x − c) (x − c)ᵀ − (1/s2) I)",
                "exp(-norm(x - c)**2/(2*s2))*(outer(x - c, x - c)/s2**2 - eye(x.size)/s2)",
            )
        },
        "by hand",
        vectors="c",
    ),
    Q(
        "sum(exp(x))",
        "x",
        {"x": ("diag(exp(x))", "diag(exp(x))")},
        "Boyd and Vandenberghe 2004, section 3.1.5",
    ),
    Q(
        "sum(x*log(x))",
        "x",
        {"x": ("diag(x^∘(−1))", "diag(1/x)")},
        "Boyd and Vandenberghe 2004, section 3.1.5",
    ),
    Q("sum(x)**2", "x", {"x": ("2 1 1ᵀ", "2*ones((x.size, x.size))")}, "by hand"),
    Q(
        "-log(b - a.T@x)",
        "x",
        {"x": ("(1/z²) a aᵀ", "outer(a, a)/(b - a@x)**2")},
        "Boyd and Vandenberghe 2004, section 11.2",
    ),
    Q(
        "-sum(log(b - A@x))",
        "x",
        {"x": ("Aᵀ diag(z^∘(−2)) A", "A.T@diag((b - A@x)**-2)@A")},
        "Boyd and Vandenberghe 2004, section 11.2",
    ),
    Q(
        "c.T@x + mu*sum(log(x))",
        "x",
        {"x": ("−mu diag(x^∘(−2))", "-mu*diag(x**-2)")},
        "Boyd and Vandenberghe 2004, section 11.2",
    ),
    Q(
        "trace(X.T@A@X)",
        "X",
        {"X": ("(A + Aᵀ) ⊗ I", "kron(eye(X.shape[1]), A + A.T)")},
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "trace(X@X.T)",
        "X",
        {"X": ("2 I", "2*eye(X.size)")},
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "a.T@X.T@X@a",
        "X",
        {"X": ("2 I ⊗ a aᵀ", "kron(2*outer(a, a), eye(X.shape[0]))")},
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "a.T@inv(X)@b",
        "X",
        {
            "X": (
                "(X⁻ᵀ a bᵀ X⁻ᵀ ⊗ X⁻¹ + X⁻ᵀ ⊗ X⁻¹ b aᵀ X⁻¹) K",
                "bilinear(inv(X)@outer(b, a)@inv(X), inv(X))",
            )
        },
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "det(X)",
        "X",
        {
            "X": (
                "det(X) (vec(X⁻ᵀ) vec(X⁻ᵀ)ᵀ − (X⁻ᵀ ⊗ X⁻¹) K)",
                "det(X)*(outer(vec(inv(X).T), vec(inv(X).T)) - bilinear(inv(X), inv(X))/2)",
            )
        },
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q("y.T@X@inv(X.T@X)@X.T@y", "y", {"y": ("2 X u1⁻¹ Xᵀ", "2*X@inv(X.T@X)@X.T")}, "by hand"),
    Q(
        "(1-x)**2+100*(y-x**2)**2",
        "x y",
        {
            "x": ("2 + 1200 x² − 400 y", "1200*x**2 - 400*y + 2"),
            "x y": ("−400 x", "-400*x"),
            "y": ("200", "200"),
        },
        "Nocedal and Wright 2006, exercise 2.1",
    ),
]

NEURONS = [
    Q(
        "1/2*(y-sigmoid(w.T@x))**2",
        "w",
        {
            "w": (
                "ŷ² (1 − ŷ)² x xᵀ − (y − ŷ) ŷ (1 − ŷ) (1 − 2 ŷ) x xᵀ",
                "(dsigmoid(w@x)**2 - (y - sigmoid(w@x))*d2sigmoid(w@x))*outer(x, x)",
            )
        },
        "by hand",
    ),
    Q(
        "1/2*(y-tanh(w.T@x+b))**2",
        "w b",
        {
            "w": (
                "(1 − ŷ²)² x xᵀ + 2 (y − ŷ) ŷ (1 − ŷ²) x xᵀ",
                "(dtanh(w@x + b)**2 - (y - tanh(w@x + b))*d2tanh(w@x + b))*outer(x, x)",
            ),
            "w b": (
                "(1 − ŷ²)² x + 2 (y − ŷ) ŷ (1 − ŷ²) x",
                "(dtanh(w@x + b)**2 - (y - tanh(w@x + b))*d2tanh(w@x + b))*x",
            ),
            "b": (
                "(1 − ŷ²) (1 − ŷ² + 2 (y − ŷ) ŷ)",
                "dtanh(w@x + b)**2 - (y - tanh(w@x + b))*d2tanh(w@x + b)",
            ),
        },
        "by hand",
    ),
    Q(
        "1/2*norm2(y-f(X@w))**2",
        "w",
        {
            "w": (
                "Xᵀ diag(f'(z)^∘2 − (y − ŷ) ∘ f''(z)) X",
                "X.T@diag(df(X@w)**2 - (y - f(X@w))*d2f(X@w))@X",
            )
        },
        "Nocedal and Wright 2006, chapter 10",
    ),
    Q(
        "sum(tanh(X@w)**2)",
        "w",
        {
            "w": (
                "Xᵀ diag(2 (1 − tanh(z)^∘2)^∘2 − 4 tanh(z)^∘2 ∘ (1 − tanh(z)^∘2)) X",
                "X.T@diag(2*dtanh(X@w)**2 + 2*tanh(X@w)*d2tanh(X@w))@X",
            )
        },
        "by hand",
    ),
    Q(
        "sum(softplus(x))",
        "x",
        {"x": ("diag(σ(x) ∘ (1 − σ(x)))", "diag(sigmoid(x)*sigmoid(-x))")},
        "by hand",
    ),
    Q("sum(relu(X@w))", "w", {"w": ("0", "zeros((w.size, w.size))")}, "by hand"),
    Q(
        "sum(alpha*relu(W@x))",
        "W",
        {"W": ("0", "zeros((W.size, W.size))")},
        "by hand",
        vectors="alpha",
    ),
]
