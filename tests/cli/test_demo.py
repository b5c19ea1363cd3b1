"""The demo, whole, as `make demo` runs it."""

from functools import partial
from pathlib import Path

import pytest
import torch

import hesse
from hesse.cli import demo
from hesse.cli.app import main

pytest.importorskip("sklearn")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden", "size"), [(8, "610"), pytest.param(32, "2,410", marks=pytest.mark.whole)]
)
def test_demo_checks_what_it_shows(
    hidden: int,
    size: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = torch.get_rng_state()
    assert demo.WIDTHS == (64, 32, 10)
    monkeypatch.setattr(demo, "WIDTHS", (64, hidden, 10))
    # 256 columns or more beside the Hessian's, and not for five seconds.
    columns = partial(demo.columns_within, 0.0)
    monkeypatch.setattr(demo, "columns_within", lambda _, *rest: columns(*rest))
    assert main(["demo", "--out", str(tmp_path / "new" / "demo")]) == 0
    assert torch.equal(torch.get_rng_state(), state), "the demo draws from a generator of its own"
    printed = capsys.readouterr().out
    assert "1,797 images" in printed and f"P = {size}; trained" in printed
    agreement = [
        float(line.split()[-1])
        for line in printed.splitlines()
        if line.startswith(("along 8 random", "in "))
    ]
    assert len(agreement) == 2 and max(agreement) < 1e-12
    written = {p.name for p in (tmp_path / "new" / "demo").iterdir()}
    assert written == {
        "hessian.png",
        "spectrum.png",
        "quadratic.png",
        "hessian.safetensors",
        "derivation.html",
        "report.html",
    }
    assert (
        "saddle: " in printed
        and "error of order 3" in printed
        and "newton() refused: H is indefinite" in printed
    )
    assert all(
        f"\n{step}(" in printed
        for step in ("trust_region", "cubic", "saddle_free", "negative_curvature")
    )
    assert hesse.load(tmp_path / "new" / "demo" / "hessian.safetensors").layout.size == int(
        size.replace(",", "")
    )


def test_a_folder_that_cannot_be_made_is_told_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file")
    assert main(["demo", "--out", str(tmp_path / "taken")]) == 1
    assert "--out: the folder" in capsys.readouterr().err
