"""`hesse completion`: what a shell needs to complete the others."""

from typing import Annotated, Literal

from cyclopts import Parameter

from hesse.cli.application import app

COMPLETION = """Examples:
hesse completion bash > ~/.local/share/bash-completion/completions/hesse
hesse completion zsh > ~/.zfunc/_hesse
hesse completion fish > ~/.config/fish/completions/hesse.fish"""


@app.command(help_epilogue=COMPLETION, sort_key=12)
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Which shell.")], /
) -> None:
    """Print the script that completes hesse's commands and options in a shell; the script runs
    nothing of hesse."""
    print(app.generate_completion(prog_name="hesse", shell=shell), end="")
