"""Likelihoods of the usual distributions, and classifiers."""

from derivation.questions.question import Question as Q

LIKELIHOODS = [
    Q(
        "sum(log(1+exp(X@w)))",
        "w",
        {"w": ("Xᵀ diag(p ∘ (1 − p)) X", "X.T@diag(sigmoid(X@w)*(1 - sigmoid(X@w)))@X")},
        "Bishop 2006, equation 4.97",
    ),
    Q(
        "sum(log(1+exp(-y*(X@w))))",
        "w",
        {
            "w": (
                "Xᵀ diag(p ∘ (1 − p) ∘ y^∘2) X",
                "X.T@diag(y**2*sigmoid(y*(X@w))*sigmoid(-y*(X@w)))@X",
            )
        },
        "by hand",
    ),
    Q(
        "log(1+exp(w.T@x))",
        "w",
        {"w": ("p (1 − p) x xᵀ", "sigmoid(w@x)*(1 - sigmoid(w@x))*outer(x, x)")},
        "Bishop 2006, equation 4.97",
    ),
    Q(
        "1/(1+exp(-w.T@x))",
        "w",
        {"w": ("J (1 − J) (1 − 2 J) x xᵀ", "d2sigmoid(w@x)*outer(x, x)")},
        "by hand",
    ),
    Q(
        "sum(exp(X@w) - y*(X@w))",
        "w",
        {"w": ("Xᵀ diag(exp(z)) X", "X.T@diag(exp(X@w))@X")},
        "McCullagh and Nelder 1989, section 2.5",
    ),
    Q(
        "-(y*log(p)+(1-y)*log(1-p))",
        "p",
        {"p": ("y/p² + (1 − y)/(1 − p)²", "y/p**2 + (1 - y)/(1 - p)**2")},
        "Casella and Berger 2002, section 7.3",
    ),
    Q(
        "-log(p**y*(1-p)**(1-y))",
        "p",
        {"p": ("y/p² + (1 − y)/(1 − p)²", "y/p**2 + (1 - y)/(1 - p)**2")},
        "Casella and Berger 2002, section 7.3",
    ),
    Q("-sum(y*log(p))", "p", {"p": ("diag(y ∘ p^∘(−2))", "diag(y/p**2)")}, "by hand"),
    Q(
        "n/2*log(s2)+sum((x-mu)**2)/(2*s2)",
        "mu s2",
        {
            "mu": ("d/s2", "x.size/s2"),
            "mu s2": ("(1ᵀ (x − mu 1))/s2²", "sum(x - mu)/s2**2"),
            "s2": (
                "((x − mu 1)ᵀ (x − mu 1))/s2³ − n/(2 s2²)",
                "sum((x - mu)**2)/s2**3 - n/(2*s2**2)",
            ),
        },
        "Casella and Berger 2002, section 7.3",
        numbers="mu",
    ),
    Q("sum((x-mu)**2)", "mu", {"mu": ("2 d", "2*x.size")}, "by hand", numbers="mu"),
    Q(
        "1/2*(x-mu).T@inv(S)@(x-mu)",
        "mu",
        {"mu": ("½ (S⁻¹ + S⁻ᵀ)", "(inv(S) + inv(S).T)/2")},
        "Petersen and Pedersen 2012, section 2.4",
    ),
    Q(
        "(x-mu)**2/(2*s**2) + log(s*sqrt(2*pi))",
        "mu",
        {"mu": ("1/s²", "1/s**2")},
        "Casella and Berger 2002, section 7.3",
        numbers="pi",
    ),
    Q(
        "1/2*y.T@inv(K+s*eye(n))@y + 1/2*logdet(K+s*eye(n))",
        "s",
        {
            "s": (
                "yᵀ u1⁻¹ u1⁻¹ u1⁻¹ y − ½ tr(u1⁻¹ u1⁻¹)",
                "y@power(inv(K + s*eye(y.size)), 3)@y - trace(power(inv(K + s*eye(y.size)), 2))/2",
            )
        },
        "Rasmussen and Williams 2006, equation 5.9, differentiated once more",
        numbers="s",
    ),
    Q(
        "logdet(A)+trace(inv(A)@S)",
        "A",
        {
            "A": (
                "((A⁻ᵀ Sᵀ A⁻ᵀ − A⁻ᵀ) ⊗ A⁻¹ + A⁻ᵀ ⊗ A⁻¹ S A⁻¹) K",
                "bilinear(inv(A)@S@inv(A), inv(A)) - bilinear(inv(A), inv(A))/2",
            )
        },
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q("-sum(log_softmax(z))", "z", {"z": ("d (diag(p) − p pᵀ)", "z.size*dsoftmax(z)")}, "by hand"),
    Q(
        "-sum(y*log(softmax(W@x)))",
        "W",
        {"W": ("(1ᵀ y) (diag(p) − p pᵀ) ⊗ x xᵀ", "sum(y)*kron(outer(x, x), dsoftmax(W@x))")},
        "Bishop 2006, equation 4.110",
    ),
    Q(
        "-1/m*sum(Y*log_softmax(X@W.T))",
        "W",
        {
            "W": (
                "(1/m) Σ_o (1ᵀ y_o) (diag(p_o) − p_o p_oᵀ) ⊗ x_o x_oᵀ",
                "sum([sum(y)*kron(outer(x, x), dsoftmax(W@x)) for x, y in zip(X, Y)], 0)/m",
            )
        },
        "Bishop 2006, equation 4.110",
    ),
    Q(
        "tau*logsumexp(z/tau)",
        "z",
        {"z": ("(1/tau) (diag(p) − p pᵀ)", "dsoftmax(z/tau)/tau")},
        "Boyd and Vandenberghe 2004, section 3.1.5",
    ),
    Q(
        "sum(x*log(lam)-lam)",
        "lam",
        {"lam": ("−(1ᵀ x)/lam²", "-sum(x)/lam**2")},
        "Casella and Berger 2002, section 7.3",
        numbers="lam",
    ),
    Q(
        "sum(l*x - log(l))",
        "l",
        {"l": ("d/l²", "x.size/l**2")},
        "Casella and Berger 2002, section 7.3",
        numbers="l",
    ),
]
