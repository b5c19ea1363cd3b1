"""Formulas on lines of a given width."""

from hypothesis import given
from hypothesis import strategies as st

from hesse.derivation.show.layout import (
    MARK_OFF,
    MARK_ON,
    Part,
    broken,
    laid_out,
    prose,
    table,
    underlined,
    wide,
)

WORDS = st.text("ab[](){} +−·", min_size=1, max_size=60)


def test_a_short_formula_is_one_row():
    assert laid_out("J =", [Part("+", "a"), Part("−", "b")], 40) == ["J = a − b"]


def test_terms_go_on_under_the_first():
    assert laid_out("J =", [Part("−", "alpha beta"), Part("+", "gamma delta")], 20, "=: S") == [
        "J = −alpha beta",
        "    + gamma delta",
        "    =: S",
    ]


def test_labels_stand_under_their_terms():
    assert laid_out("=", [Part("+", "a b", "first"), Part("−", "c", "second")], 60) == [
        "= a b       −   c",
        "  └ first       └ second",
    ]


def test_a_long_left_side_stands_alone():
    assert laid_out("a b c d e f =", [Part("+", "x")], 20) == ["a b c d e f", "  = x"]


def test_breaks_come_outside_brackets_and_before_signs():
    assert broken("a (b + c) + d (e + f)", 14) == ["a (b + c)", "+ d (e + f)"]


def test_what_is_pointed_at_is_underlined():
    assert underlined([f"d ({MARK_ON}xy{MARK_OFF} z)"]) == ["d (xy z)", "   ‾‾"]


def test_tables_and_prose():
    assert table([("a", "bb"), ("ccc", "d")], gap=1) == ["a   bb", "ccc d"]
    assert prose("one two three", 8) == ["one two", "three"]


@given(WORDS, st.integers(8, 40))
def test_no_row_is_too_wide_and_nothing_is_lost(text, width):
    rows = broken(text, width)
    assert all(wide(row) <= width for row in rows)
    assert "".join(rows).replace(" ", "") == text.replace(" ", "")


@given(
    WORDS,
    st.lists(
        st.builds(Part, st.sampled_from("+−"), WORDS, st.text("xyz", max_size=12)),
        min_size=1,
        max_size=5,
    ),
    WORDS,
)
def test_laid_out_rows_fit(head, parts, tail):
    rows = laid_out(head, parts, 60, tail)
    assert all(wide(row) <= 60 for row in rows)
    assert all(
        part.text.replace(" ", "") in "".join(rows).replace(" ", "")
        for part in parts
        if not part.label
    )
