"""The words of signatures, which an editor offers, are those that hesse knows."""

from typing import get_args

import pytest
import torch.nn.functional as F

from hesse import words
from hesse.curvatures.curvature import CURVATURES
from hesse.derivation.code.backends import BACKENDS
from hesse.derivation.show.readings import READINGS
from hesse.derivation.sources.networks import network
from hesse.losses.known import names
from hesse.solves.preconditioners import WORDS
from hesse.solves.solve import METHODS
from hesse.taylor import proposals


@pytest.mark.parametrize(
    ("type_of_words", "known"),
    [
        (words.LossName, names()),
        (words.NetworkLoss, network.LOSSES),
        (words.CurvatureName, CURVATURES),
        (words.SolveMethod, METHODS),
        (words.PreconditionerName, WORDS),
        (words.MinimizeMethod, proposals.METHODS),
        (words.ReadingName, READINGS),
        (words.BackendName, BACKENDS),
    ],
    ids=[
        "losses",
        "networks",
        "curvatures",
        "solve",
        "preconditioners",
        "minimize",
        "readings",
        "backends",
    ],
)
def test_words_are_those_that_are_known(type_of_words: object, known: object) -> None:
    assert get_args(type_of_words) == tuple(known)  # type: ignore[call-overload]


def test_names_of_losses_are_all_of_pytorchs_that_compare_a_prediction_and_a_target() -> None:
    of_more = {
        "cosine_embedding_loss",
        "ctc_loss",
        "linear_cross_entropy",
        "margin_ranking_loss",
        "triplet_margin_loss",
        "triplet_margin_with_distance_loss",
    }
    theirs = {name for name in dir(F) if "loss" in name or "entropy" in name or name == "kl_div"}
    named = names()
    assert theirs - of_more == {name for name in named if hasattr(F, name)}
    assert all(named[name] is getattr(F, name) for name in theirs - of_more)
