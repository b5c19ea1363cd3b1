"""A bench in a process of its own, for what only a fresh process shows. Imports nothing that is
measured."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def figures(module: str, *arguments: str) -> dict[str, Any]:
    """What ``python -m module --child arguments`` prints on its last line, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--child", *arguments],
        cwd=Path(__file__).parents[1],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])
