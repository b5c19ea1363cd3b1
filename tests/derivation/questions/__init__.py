"""What people ask for, typed as they type it."""

from derivation.questions.analysis import FUNCTIONS
from derivation.questions.likelihoods import LIKELIHOODS
from derivation.questions.matrices import FORMS, NEURONS
from derivation.questions.question import Question
from derivation.questions.regressions import REGRESSION

QUESTIONS = [*REGRESSION, *LIKELIHOODS, *FORMS, *NEURONS, *FUNCTIONS]

__all__ = ["QUESTIONS", "Question"]
