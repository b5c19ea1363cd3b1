"""Scripts for shells: they know every command and option."""

import shutil
import subprocess

import pytest

from hesse.cli.app import main
from hesse.cli.application import app

SHELLS = ["bash", "zsh", "fish"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_all_commands_and_options(
    capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    commands = [name for name in app if not name.startswith("-")]
    assert {"plan", "hessian", "minimize", "derive", "completion"} <= set(commands)
    assert all(command in script for command in commands)
    options = ("start", "target", "json", "block-diagonal", "curvature")
    assert all(option in script for option in options)
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=60)


def said_in_bash(capsys: pytest.CaptureFixture[str], line: str) -> str:
    """What a shell that has read the script prints."""
    if not shutil.which("bash"):
        pytest.skip("there is no bash")
    main(["completion", "bash"])
    script = capsys.readouterr().out
    ran = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{line}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ran.stdout


def test_bash_completes(capsys: pytest.CaptureFixture[str]) -> None:
    asked = 'COMP_WORDS=(hesse mini); COMP_CWORD=1; _hesse; echo "${COMPREPLY[@]}"'
    assert said_in_bash(capsys, asked).strip() == "minimize"


@pytest.mark.parametrize("asked", ["minimize model", "minimize model.py:net --data model"])
def test_bash_offers_files_where_one_begins_an_argument(
    capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    """Of these the script itself knows nothing, and leaves them to the shell's own files."""
    ask = f"COMP_WORDS=(hesse {asked}); COMP_CWORD={len(asked.split())}; _hesse"
    said = said_in_bash(capsys, f'{ask}; echo "[${{COMPREPLY[@]}}]"; complete -p hesse')
    assert said.split("\n")[:2] == ["[]", "complete -o default -F _hesse hesse"]


def test_zsh_offers_files_where_one_begins_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "zsh"])
    rows = [row.strip() for row in capsys.readouterr().out.splitlines()]
    begun = [row for row in rows if row.startswith(("'1:file.py", "'*--data[", "'*--loss["))]
    assert len(begun) > 9 and all(row.endswith(":_files' \\") for row in begun)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["completion", "cmd"])
    printed = capsys.readouterr()
    assert "bash" in printed.err and printed.out == ""
