"""``jaxflow completion``: scripts by which shells complete commands and options.

A script is made from the parser of the commands, and holds the names of models; it is
written once into a file that the shell reads.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from jaxflow.cli import common

Words = dict[str, Any]
"""Of a command: "about", its "options" (option -> values, or None where it takes
none), its "places" (the values of its arguments), and "abouts" (option -> help)."""

_TASKS = {
    "flow": ("flow",),
    "submit": ("flow",),
    "evaluate": ("flow",),
    "classify": ("video",),
    "detect": ("video",),
    "generate": ("generation",),
    "extract": ("flow", "video"),
    "convert": ("flow", "video", "generation"),
}
"""Whose models the commands take."""
_METHODS = ("flow", "submit", "evaluate", "extract")
"""Commands that take classical methods."""

_BASH = """\
# jaxflow: completion for {shell}
{first}_jaxflow() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
  local command=${{COMP_WORDS[1]}} choices=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    choices="{commands}"
  else
    case "$command $before" in
{values}
    *) case "$command" in
{options}
      esac;;
    esac
  fi
  COMPREPLY=($(compgen -W "$choices" -- "$word"))
}}
complete -o default -F _jaxflow jaxflow
"""
# What completes nothing of its own is left to the shell, which completes files.


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = "Print a script that completes commands, options and models in a shell"
    example = (
        "jaxflow completion bash >> ~/.bashrc; for zsh, add the output to ~/.zshrc "
        "behind compinit; for fish, to ~/.config/fish/config.fish"
    )
    add = common.add_command(commands, "completion", run, about, example).add_argument
    add("shell", choices=sorted(_WRITERS), help="the shell that you use")


def run(args: argparse.Namespace) -> None:
    """Prints the script."""
    found = words(args.parser, _models())
    print(_WRITERS[args.shell](found), end="")


def words(
    parser: argparse.ArgumentParser, models: Mapping[str, list[str]]
) -> dict[str, Words]:
    """Returns what can follow each command.

    Args:
        parser: Of all commands.
        models: Command -> names that its --model takes.
    """
    (commands,) = (
        action
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    abouts = {action.dest: action.help or "" for action in commands._choices_actions}
    found = {}
    for name, command in commands.choices.items():
        row: Words = {"about": abouts[name], "options": {}, "places": [], "abouts": {}}
        for action in command._actions:
            values = list(map(str, action.choices or ()))
            if action.dest == "model":
                values = models.get(name, [])
            if not action.option_strings:
                row["places"] += values
            for option in action.option_strings:
                row["options"][option] = None if action.nargs == 0 else values
                row["abouts"][option] = _plain(action.help or "")
        found[name] = row
    return found


def _models() -> dict[str, list[str]]:
    """Returns the names that the --model of each command takes."""
    from jaxflow import classical, models

    named = {task: models.list_models(task) for task in models.TASKS}
    found = {
        command: [name for task in tasks for name in named[task]]
        for command, tasks in _TASKS.items()
    }
    for command in _METHODS:
        found[command] += sorted(classical.METHODS)
    found["evaluate"].append("zero")
    return found


def _plain(text: str) -> str:
    """Returns the first part of a help, without what a shell would read as quotes."""
    short = text.replace("%(default)s", "").partition("(")[0].partition(";")[0]
    return " ".join(short.replace("'", "").replace("%", "").split())


def _bash(found: Mapping[str, Words], shell: str = "bash", first: str = "") -> str:
    """Returns the script for Bash, which zsh understands too."""
    values = [
        f'    {_cases(name, option)}) choices="{" ".join(chosen)}";;'
        for name, row in found.items()
        for option, chosen in row["options"].items()
        if chosen is not None
    ]
    options = [
        f'      {name}) if [ "${{word#-}}" != "$word" ]; then choices="{options}"; '
        f'else choices="{places}"; fi;;'
        for name, options, places in _lists(found)
    ]
    return _BASH.format(
        shell=shell,
        first=first,
        commands=" ".join([*found, "--help", "--version"]),
        values="\n".join(values),
        options="\n".join(options),
    )


def _cases(name: str, option: str) -> str:
    """Returns the pattern of an option behind a command."""
    return f'"{name} {option}"'


def _lists(found: Mapping[str, Words]) -> Iterator[tuple[str, str, str]]:
    """Yields each command, its options, and the values of its arguments."""
    for name, row in found.items():
        yield name, " ".join(row["options"]), " ".join(row["places"])


def _zsh(found: Mapping[str, Words]) -> str:
    """Returns the script for zsh: that for Bash, by zsh's own translation."""
    return _bash(found, "zsh", "autoload -U +X bashcompinit && bashcompinit\n")


def _fish(found: Mapping[str, Words]) -> str:
    """Returns the script for fish."""
    lines = ["# jaxflow: completion for fish"]
    start = "complete -c jaxflow"
    for name, row in found.items():
        lines.append(
            f"{start} -n __fish_use_subcommand -f -a {name} -d '{_plain(row['about'])}'"
        )
        behind = f"{start} -n '__fish_seen_subcommand_from {name}'"
        if row["places"]:
            lines.append(f"{behind} -f -a '{' '.join(row['places'])}'")
        for option, chosen in row["options"].items():
            kind = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            value = "" if chosen is None else " -r"
            value += f" -f -a '{' '.join(chosen)}'" if chosen else ""
            lines.append(f"{behind} {kind}{value} -d '{row['abouts'][option]}'")
    return "\n".join(lines) + "\n"


_WRITERS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
