"""The README's Python examples run as they stand, in order, each seeing the names of those before
it."""

import re
from pathlib import Path
from typing import Any

import pytest

BLOCKS = re.findall(
    r"```python\n(.*?)```",
    (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


@pytest.mark.small
def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert names["b"].shape == (5, 3, 2, 5)
    assert Path("h.safetensors").is_file()


def test_first_example_is_short() -> None:
    lines = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(lines) <= 15
