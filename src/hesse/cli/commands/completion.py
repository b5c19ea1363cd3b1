"""`hesse completion`: what a shell needs to complete the others."""

import re
from typing import Annotated, Literal

from cyclopts import Parameter

from hesse.cli.application import app

COMPLETION = """Examples:
hesse completion bash > ~/.local/share/bash-completion/completions/hesse
hesse completion zsh > ~/.zfunc/_hesse
hesse completion fish > ~/.config/fish/completions/hesse.fish"""


# What begins with the name of a file, such as model.py:net, is a text to the parser.
_FILES = {
    "bash": ((r"^complete -F", "complete -o default -F"),),
    "zsh": (
        (r"(:(?:model|data|loss|source))' \\$", r"\1:_files' \\"),
        (r"^( +'1:[^']*(?:'\\''[^']*)*)(?<!_files)' \\$", r"\1:_files' \\"),
    ),
    "fish": (),  # it offers files wherever it knows nothing else
}


@app.command(help_epilogue=COMPLETION, sort_key=12)
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Which shell.")], /
) -> None:
    """Print the script that completes hesse's commands and options in a shell; the script runs
    nothing of hesse."""
    script = app.generate_completion(prog_name="hesse", shell=shell)
    for known, files in _FILES[shell]:
        script = re.sub(known, files, script, flags=re.MULTILINE)
    print(script, end="")
