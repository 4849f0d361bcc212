"""Tests for jaxflow.cli.completion."""

import pathlib
import shutil
import subprocess

import pytest

from jaxflow import classical, cli, models
from jaxflow.cli import completion, program

PREPARE = {
    "bash": "source {script}\n",
    # As zsh's translation of completions for Bash runs a function.
    "zsh": "autoload -U +X compinit && compinit -C -D; source {script}; emulate sh; "
    "setopt kshglob noshglob braceexpand\n",
    "fish": "source {script}\n",
}
ASK = {
    "bash": 'COMP_WORDS=({words}); COMP_CWORD={last}; _jaxflow; '
    'echo "${{COMPREPLY[@]}}"',
    "zsh": 'COMP_WORDS=({words}); COMP_CWORD={last}; COMPREPLY=(); _jaxflow; '
    'print -- "${{COMPREPLY[@]}}"',
    "fish": "echo (complete -C '{line}' | string split -f 1 \\t)",
}  # fmt: skip
FLAGS = {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}


@pytest.fixture
def complete(tmp_path, capsys, monkeypatch):
    """Returns a function: a shell and lines so far -> what their last words become."""
    monkeypatch.setattr(models, "list_models", lambda task=None: [f"{task}_net"])

    def ask(shell, *lines):
        if shutil.which(shell) is None:
            pytest.skip(f"no {shell} here")
        assert cli.main(["completion", shell]) == 0
        script = pathlib.Path(tmp_path, "script")
        script.write_text(capsys.readouterr().out)
        asked = PREPARE[shell].format(script=script)
        for line in lines:
            words = line.split(" ")
            given = " ".join(f'"{word}"' for word in words)
            asked += ASK[shell].format(words=given, last=len(words) - 1, line=line)
            asked += "\n"
        done = subprocess.run(
            [shell, FLAGS[shell], "-c", asked], capture_output=True, text=True
        )
        assert not done.stderr and done.returncode == 0, done.stderr
        answers = [set(line.split()) for line in done.stdout.split("\n")[:-1]]
        # In zsh a function names all words, and the shell keeps those that fit.
        starts = [line.split(" ")[-1] if shell == "zsh" else "" for line in lines]
        return [
            {word for word in found if word.startswith(start)}
            for found, start in zip(answers, starts, strict=True)
        ]

    return ask


@pytest.mark.parametrize("shell", sorted(ASK))
def test_a_shell_completes_commands_options_values_and_files(complete, shell, tmp_path):
    (tmp_path / "picture_of_a_cat.png").touch()
    lines = {
        "jaxflow ex": {"extract"},
        "jaxflow de": {"demo", "detect"},
        "jaxflow flow a.png b.png --ba": {"--backward", "--batch-size"},
        "jaxflow submit kitti": {"kitti2012", "kitti2015"},
        "jaxflow generate --sampler ": {"ddim", "ddpm"},
        "jaxflow flow a.png --model ": {"flow_net", *classical.METHODS},
        "jaxflow classify c.mp4 --model v": {"video_net"},
        # `complete -o default` lets Bash and zsh put files where there are no words.
        "jaxflow flow pict": {"picture_of_a_cat.png"} if shell == "fish" else set(),
    }
    assert complete(shell, *lines) == list(lines.values())


def test_every_command_is_completed():
    found = completion.words(program._parser(), {})
    assert list(found) == [
        *("models", "flow", "view", "classify", "detect", "generate", "extract"),
        *("evaluate", "submit", "convert", "demo", "completion"),
    ]
    assert all("--help" in row["options"] for row in found.values())
    assert completion._TASKS.keys() == {
        name for name, row in found.items() if "--model" in row["options"]
    }
