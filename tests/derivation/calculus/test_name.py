"""Names of quantities: what is written can be read again, and is known by its parts."""

import pytest

from hesse.derivation.calculus.name import Name, primed
from hesse.derivation.calculus.picking import Picker, numbered

WRITTEN = {
    "z3": Name("z", "3"),
    "a(fc,2)": Name("a", "(fc,2)"),
    "δ3": Name("δ", "3"),
    "δu1′": Name("δ", "u1", primes=1),
    "S3": Name("S", "3"),
    "S2,m": Name("S", of="2", by="m"),
    "S(fc,2),(fc,3)": Name("S", of="(fc,2)", by="(fc,3)"),
    "D2→3′": Name("D", of="3", by="2", primes=1),
    "∂∂pool(a)/∂a/∂a": Name("∂", of="∂pool(a)/∂a", by="a"),
    "alpha": Name("alpha"),
    "softmax(z)": Name("softmax(z)"),
    "J": Name("J"),
}


@pytest.mark.parametrize(("key", "name"), WRITTEN.items(), ids=list(WRITTEN))
def test_a_name_is_read_as_it_is_written(key, name):
    assert Name.read(key) == name
    assert str(name) == key


def test_what_follows_from_a_name():
    assert [Name.read(key).place for key in ("z3", "a(fc)", "u1", "z")] == ["3", "(fc)", "u1", "z"]
    signals = [str(Name.read(key).signal) for key in ("z3", "a3", "u1", "z", "z(fc,2)")]
    assert signals == ["δ3", "δa3", "δu1", "δz", "δ(fc,2)"]
    assert Name.read("∂∂pool(a)/∂a/∂b").derivative == ("pool(a)", ("a", "b"))
    assert Name.read("δ3").derivative is None
    anywhere = [str(Name.read(key).any("3", "m")) for key in ("S2,3", "S3,4", "D3→4", "D2→3", "z3")]
    assert anywhere == ["S2,m", "Sm,4", "Dm→4", "D2→3", "z3"]


def test_a_free_name_is_the_first_candidate_that_nothing_has():
    picker = Picker({"i", "S3"})
    assert [picker.pick(numbered("ij")) for _ in range(3)] == ["j", "i1", "j1"]
    assert [picker.pick(primed(Name("S", "3"))) for _ in range(2)] == ["S3′", "S3′′"]
