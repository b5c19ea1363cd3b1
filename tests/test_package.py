"""The wheel and the sdist hold what they should, and the wheel works where it is installed."""

import sys
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from package import ROOT, VARIABLE, build, check, environment, install


def test_a_wheel_is_built_installed_and_tried(tmp_path: Path) -> None:
    wheel, _ = build(tmp_path)
    python = environment(tmp_path / "installed", Path(sys.executable))
    install(python, "--no-deps", str(wheel))
    assert check(python).endswith("web plot html disk frames cli")


def test_without_an_address_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    told = ProjectMetadata(str(ROOT), PluginManager()).core
    assert told.urls == {} and not told.dynamic
    assert told.readme == (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("place", ["hesse", "http://example.org/a/hesse", "https://example.org"])
def test_what_is_no_address_is_refused(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, place)
    with pytest.raises(ValueError, match="expected the address of a repository"):
        _ = ProjectMetadata(str(ROOT), PluginManager()).core
