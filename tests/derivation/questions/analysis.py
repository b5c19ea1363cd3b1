"""The usual questions of analysis and of optimisation."""

from derivation.questions.question import Question as Q

FUNCTIONS = [
    Q(
        "sum((y-X@w)**2)/(2*s)+t/2*norm2(w)**2",
        "w",
        {"w": ("(1/s) XᵀX + t I", "X.T@X/s + t*eye(w.size)")},
        "Bishop 2006, equation 3.54",
    ),
    Q(
        "norm2(A@x-b)**2/(2*m)",
        "x",
        {"x": ("(1/m) AᵀA", "A.T@A/m")},
        "Boyd and Vandenberghe 2004, section 4.4",
    ),
    Q(
        "1/(2*m)*norm2(X@t-y)**2",
        "t",
        {"t": ("(1/m) XᵀX", "X.T@X/m")},
        "Boyd and Vandenberghe 2004, section 4.4",
    ),
    Q("norm2(L@(A@x-b))**2", "x", {"x": ("2 Aᵀ LᵀL A", "2*(L@A).T@(L@A)")}, "by hand"),
    Q(
        "(A@x-b).T@inv(S)@(A@x-b)",
        "x",
        {"x": ("Aᵀ (S⁻¹ + S⁻ᵀ) A", "A.T@(inv(S) + inv(S).T)@A")},
        "Petersen and Pedersen 2012, section 2.4",
    ),
    Q(
        "norm2(y-X@w)**2+lam*norm2(D@w)**2",
        "w",
        {"w": ("2 (XᵀX + lam DᵀD)", "2*X.T@X + 2*lam*D.T@D")},
        "Boyd and Vandenberghe 2004, section 6.3.2",
    ),
    Q(
        "norm2(X-Y@A)**2",
        "A",
        {"A": ("2 YᵀY ⊗ I", "kron(eye(A.shape[1]), 2*Y.T@Y)")},
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "norm2(A@X@B-C)**2",
        "X",
        {"X": ("2 AᵀA ⊗ B Bᵀ", "2*kron(B@B.T, A.T@A)")},
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "sum((X@w-y)**4)",
        "w",
        {"w": ("12 Xᵀ diag((X w − y)^∘2) X", "12*X.T@diag((y - X@w)**2)@X")},
        "by hand",
    ),
    Q(
        "trace(X.T@X@A)",
        "X",
        {"X": ("I ⊗ (A + Aᵀ)", "kron(A + A.T, eye(X.shape[0]))")},
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "trace(A@X@B@X.T)",
        "X",
        {"X": ("A ⊗ Bᵀ + Aᵀ ⊗ B", "kron(B.T, A) + kron(B, A.T)")},
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "trace(X@A@X@B)",
        "X",
        {"X": ("(Aᵀ ⊗ B + Bᵀ ⊗ A) K", "bilinear(B, A)")},
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "trace(inv(X)@A)",
        "X",
        {"X": ("(X⁻ᵀ ⊗ X⁻¹ A X⁻¹ + X⁻ᵀ Aᵀ X⁻ᵀ ⊗ X⁻¹) K", "bilinear(inv(X)@A@inv(X), inv(X))")},
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "-logdet(X)+trace(S@X)",
        "X",
        {"X": ("(X⁻ᵀ ⊗ X⁻¹) K", "bilinear(inv(X), inv(X))/2")},
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "a.T@X@b",
        "X",
        {"X": ("0", "zeros((X.size, X.size))")},
        "Petersen and Pedersen 2012, section 2.4",
    ),
    Q(
        "b.T@X.T@X@c",
        "X",
        {"X": ("I ⊗ (c bᵀ + b cᵀ)", "kron(outer(b, c) + outer(c, b), eye(X.shape[0]))")},
        "Magnus and Neudecker 2019, chapter 10",
    ),
    Q(
        "1/norm2(x)",
        "x",
        {"x": ("(3/n⁵) x xᵀ − (1/n³) I", "(3*outer(x, x) - (x@x)*eye(x.size))/norm(x)**5")},
        "by hand",
    ),
    Q(
        "log(norm2(x))",
        "x",
        {"x": ("(1/n²) I − (2/n⁴) x xᵀ", "(eye(x.size) - 2*outer(x, x)/(x@x))/(x@x)")},
        "by hand",
    ),
    Q(
        "log(x.T@x)",
        "x",
        {"x": ("(2/z) I − (4/z²) x xᵀ", "2*(eye(x.size) - 2*outer(x, x)/(x@x))/(x@x)")},
        "by hand",
    ),
    Q(
        "log(x.T@A@x)",
        "x",
        {
            "x": (
                "(1/z) (A + Aᵀ) − (1/z²) (A + Aᵀ) x xᵀ (A + Aᵀ)",
                "(A + A.T)/(x@A@x) - outer((A + A.T)@x, (A + A.T)@x)/(x@A@x)**2",
            )
        },
        "by hand",
    ),
    Q(
        "sqrt(x.T@A@x)",
        "x",
        {
            "x": (
                "(1/(2 s)) (A + Aᵀ) − (1/(4 s³)) (A + Aᵀ) x xᵀ (A + Aᵀ)",
                "(A + A.T)/2/sqrt(x@A@x) - outer((A + A.T)@x, (A + A.T)@x)/4/(x@A@x)**1.5",
            )
        },
        "by hand",
    ),
    Q("(a.T@x)**2", "x", {"x": ("2 a aᵀ", "2*outer(a, a)")}, "by hand"),
    Q("(a.T@x)*(b.T@x)", "x", {"x": ("b aᵀ + a bᵀ", "outer(a, b) + outer(b, a)")}, "by hand"),
    Q("(a.T@x)**3", "x", {"x": ("6 (aᵀ x) a aᵀ", "6*(a@x)*outer(a, a)")}, "by hand"),
    Q("1/(a.T@x+b)", "x", {"x": ("(2/(aᵀ x + b)³) a aᵀ", "2*outer(a, a)/(a@x + b)**3")}, "by hand"),
    Q(
        "sum(1/x)",
        "x",
        {"x": ("2 diag(x^∘(−3))", "diag(2*x**-3)")},
        "Boyd and Vandenberghe 2004, section 3.1.5",
    ),
    Q(
        "sum(sqrt(x))",
        "x",
        {"x": ("−¼ diag(x^∘(−3/2))", "diag(-x**-1.5/4)")},
        "Boyd and Vandenberghe 2004, section 3.1.5",
    ),
    Q(
        "sum(x**3)",
        "x",
        {"x": ("6 diag(x)", "diag(6*x)")},
        "Boyd and Vandenberghe 2004, section 3.1.5",
    ),
    Q(
        "sum(x**p)",
        "x",
        {"x": ("diag(p ∘ (p − 1) ∘ x^∘(p − 2))", "diag(p*(p - 1)*x**(p - 2))")},
        "Boyd and Vandenberghe 2004, section 3.1.5",
    ),
    Q(
        "-sum(sqrt(x))",
        "x",
        {"x": ("¼ diag(x^∘(−3/2))", "diag(x**-1.5/4)")},
        "Boyd and Vandenberghe 2004, section 3.1.5",
    ),
    Q(
        "log(sum(exp(A@x+b)))",
        "x",
        {"x": ("Aᵀ (diag(p) − p pᵀ) A", "A.T@dsoftmax(A@x + b)@A")},
        "Boyd and Vandenberghe 2004, appendix A.4",
    ),
    Q(
        "logsumexp(A@x)",
        "x",
        {"x": ("Aᵀ (diag(p) − p pᵀ) A", "A.T@dsoftmax(A@x)@A")},
        "Boyd and Vandenberghe 2004, appendix A.4",
    ),
    Q(
        "mu*logsumexp(A@x/mu)",
        "x",
        {"x": ("(1/mu) Aᵀ (diag(p) − p pᵀ) A", "A.T@dsoftmax(A@x/mu)@A/mu")},
        "Boyd and Vandenberghe 2004, appendix A.4",
    ),
    Q(
        "x.T@log(x)",
        "x",
        {"x": ("diag(x^∘(−1))", "diag(1/x)")},
        "Boyd and Vandenberghe 2004, section 3.1.5",
    ),
    Q(
        "sum(x*log(x/q))",
        "x",
        {"x": ("diag(x^∘(−1))", "diag(1/x)")},
        "Boyd and Vandenberghe 2004, section 3.1.5",
    ),
    Q(
        "sum(q*log(q/x))",
        "x",
        {"x": ("diag(q ∘ x^∘(−2))", "diag(q/x**2)")},
        "Boyd and Vandenberghe 2004, section 3.1.5",
    ),
    Q(
        "y.T@softmax(z)",
        "z",
        {
            "z": (
                "diag(y ∘ p − (yᵀ p) p) − p (y ∘ p)ᵀ − (y ∘ p) pᵀ + 2 (yᵀ p) p pᵀ",
                "(lambda p, v: diag(v) - outer(v, p) - outer(p, v))(softmax(z), dsoftmax(z)@y)",
            )
        },
        "by hand",
    ),
    Q(
        "sum(sigmoid(X@w))",
        "w",
        {"w": ("Xᵀ diag(p ∘ (1 − p) ∘ (1 − 2 p)) X", "X.T@diag(d2sigmoid(X@w))@X")},
        "by hand",
    ),
    Q(
        "sum(softplus(X@w))+lam/2*w.T@w",
        "w",
        {
            "w": (
                "Xᵀ diag(p ∘ (1 − p)) X + lam I",
                "X.T@diag(sigmoid(X@w)*(1 - sigmoid(X@w)))@X + lam*eye(w.size)",
            )
        },
        "Bishop 2006, equation 4.97",
        numbers="lam",
    ),
    Q(
        "sum((y-sigmoid(X@w))**2)",
        "w",
        {
            "w": (
                "2 Xᵀ diag(ŷ^∘2 ∘ (1 − ŷ)^∘2 − (y − ŷ) ∘ ŷ ∘ (1 − ŷ) ∘ (1 − 2 ŷ)) X",
                "2*X.T@diag(dsigmoid(X@w)**2 - (y - sigmoid(X@w))*d2sigmoid(X@w))@X",
            )
        },
        "by hand",
    ),
    Q(
        "-mean(y*log(sigmoid(X@w))+(1-y)*log(1-sigmoid(X@w)))",
        "w",
        {
            "w": (
                "(1/h) Xᵀ diag(p ∘ (1 − p)) X",
                "X.T@diag(sigmoid(X@w)*(1 - sigmoid(X@w)))@X/y.size",
            )
        },
        "Bishop 2006, equation 4.97",
    ),
    Q(
        "sum(lgamma(x))",
        "x",
        {"x": ("diag(ψ′(x))", "diag(polygamma(1, x))")},
        "Abramowitz and Stegun 1964, section 6.4",
    ),
    Q(
        "n*log(s)+sum(x**2)/(2*s**2)",
        "s",
        {"s": ("3 (xᵀx)/s⁴ − n/s²", "3*sum(x**2)/s**4 - n/s**2")},
        "Casella and Berger 2002, section 7.3",
    ),
    Q(
        "k*log(p)+(n-k)*log(1-p)",
        "p",
        {"p": ("−(k/p² + (n − k)/(1 − p)²)", "-k/p**2 - (n - k)/(1 - p)**2")},
        "Casella and Berger 2002, section 7.3",
    ),
    Q("-k*log(l)+l*t", "l", {"l": ("k/l²", "k/l**2")}, "Casella and Berger 2002, section 7.3"),
    Q("x*log(x)+(1-x)*log(1-x)", "x", {"x": ("1/x + 1/(1 − x)", "1/(x*(1 - x))")}, "by hand"),
    Q(
        "x**2/y",
        "x y",
        {
            "x": ("2/y", "2/y**3*y**2"),
            "x y": ("−2 x/y²", "-2/y**3*y*x"),
            "y": ("2 x²/y³", "2/y**3*x**2"),
        },
        "Boyd and Vandenberghe 2004, section 3.1.5",
    ),
    Q(
        "x*exp(y)",
        "x y",
        {"x": ("0", "0"), "x y": ("exp(y)", "exp(y)"), "y": ("x exp(y)", "x*exp(y)")},
        "by hand",
    ),
    Q(
        "(x**2+y-11)**2+(x+y**2-7)**2",
        "x y",
        {
            "x": ("12 x² + 4 y − 42", "8*x**2 + 4*(x**2 + y - 11) + 2"),
            "x y": ("4 (x + y)", "4*x + 4*y"),
            "y": ("12 y² − 26 + 4 x", "8*y**2 + 4*(x + y**2 - 7) + 2"),
        },
        "by hand",
    ),
    Q(
        "sin(x)*cos(y)",
        "x y",
        {
            "x": ("−sin(x) cos(y)", "-sin(x)*cos(y)"),
            "x y": ("−cos(x) sin(y)", "-cos(x)*sin(y)"),
            "y": ("−sin(x) cos(y)", "-sin(x)*cos(y)"),
        },
        "by hand",
    ),
    Q(
        "exp(-(x**2+y**2)/2)",
        "x y",
        {
            "x": ("exp(u1) (x² − 1)", "(x**2 - 1)*exp(-(x**2 + y**2)/2)"),
            "x y": ("exp(u1) x y", "x*y*exp(-(x**2 + y**2)/2)"),
            "y": ("exp(u1) (y² − 1)", "(y**2 - 1)*exp(-(x**2 + y**2)/2)"),
        },
        "by hand",
    ),
    Q(
        "log(x**2+y**2)/2",
        "x y",
        {
            "x": ("1/u1 − 2 x²/u1²", "(y**2 - x**2)/(x**2 + y**2)**2"),
            "x y": ("−2 x y/u1²", "-2*x*y/(x**2 + y**2)**2"),
            "y": ("1/u1 − 2 y²/u1²", "(x**2 - y**2)/(x**2 + y**2)**2"),
        },
        "by hand",
    ),
    Q("sum(cos(w.T@x))", "w", {"w": ("−cos(z) x xᵀ", "-cos(w@x)*outer(x, x)")}, "by hand"),
]
