"""The wheel and the sdist hold what they should, and the wheel works where it is installed."""

import sys
from pathlib import Path

from package import build, check, environment, install


def test_a_wheel_is_built_installed_and_tried(tmp_path: Path) -> None:
    wheel, _ = build(tmp_path)
    python = environment(tmp_path / "installed", Path(sys.executable))
    install(python, "--no-deps", str(wheel))
    assert check(python).endswith("web plot html disk frames cli")
