"""`sightline completion bash|zsh|fish`: a script that completes commands and flags; file names complete as ever.

The flags are read off the commands' own help pages, and those of `train` and `plan` off the recipe, so that there is no
list to keep.
"""

import contextlib
import importlib
import io
import re

from sightline.cli.arguments import Arguments
from sightline.cli.main import COMMANDS
from sightline.cli.shipped_recipes import name_of, shipped
from sightline.config.complaint import all_names

SUBCOMMANDS = ("data", "recipe")
WITH_RECIPE = ("train", "plan", "rollout-server")
SHELLS = ("bash", "zsh", "fish")
FLAG = re.compile(r"^ +(?:-\w, )?(--[a-z][a-z-]*)", re.MULTILINE)
"""A flag where a help page explains it, at the beginning of a line."""

BASH = """\
# bash: sightline completion bash > ~/.local/share/bash-completion/completions/sightline
_sightline() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands}"
    else
        case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" in
{cases}
        esac
    fi
    # flags where a flag was begun; elsewhere file names stay in reach
    local one kept=""
    for one in $words; do
        case "$word:$one" in
            -*) kept="$kept $one" ;;
            *:--*) ;;
            *) kept="$kept $one" ;;
        esac
    done
    COMPREPLY=($(compgen -W "$kept" -- "$word"))
}}
complete -o default -o bashdefault -F _sightline sightline
"""
ZSH = "# zsh: put this into ~/.zshrc\nautoload -Uz compinit bashcompinit && compinit && bashcompinit\n"


def run(argv: list[str]) -> int:
    """Print the script."""
    arguments = Arguments("completion", "Print a completion script for a shell.")
    arguments.add_argument("shell", choices=SHELLS)
    shell = arguments.parse(argv).shell
    print({"bash": bash, "zsh": lambda: ZSH + bash(), "fish": fish}[shell](), end="")
    return 0


def bash() -> str:
    """Commands first, then what belongs to the command."""
    cases = []
    # the longer patterns first: a subcommand's words before its command's
    for name, words in sorted(known().items(), key=lambda item: " " not in item[0]):
        pattern = f'"{name}"' if " " in name else f'"{name} "*'
        cases.append(f'            {pattern}) words="{" ".join(words)}" ;;')
    return BASH.format(commands=" ".join(COMMANDS), cases="\n".join(cases))


def fish() -> str:
    """One line a word."""
    lines = ["# fish: sightline completion fish > ~/.config/fish/completions/sightline.fish"]
    for name, purpose in COMMANDS.items():
        lines.append(f"complete -c sightline -n __fish_use_subcommand -a {name} -d '{purpose.replace(chr(39), '')}'")
    for name, words in known().items():
        seen = "; and ".join(f"__fish_seen_subcommand_from {part}" for part in name.split())
        for word in words:
            what = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
            lines.append(f"complete -c sightline -n '{seen}' {what}")
    return "\n".join(lines) + "\n"


def known() -> dict[str, list[str]]:
    """Command, or command and subcommand → the words that may follow."""
    found: dict[str, list[str]] = {}
    for name in COMMANDS:
        if name in SUBCOMMANDS:
            inner = list(importlib.import_module(f"sightline.cli.{name}").COMMANDS)
            found[name] = inner
            found |= {f"{name} {sub}": flags_of([name, sub]) for sub in inner}
        elif name == "completion":
            found[name] = [*SHELLS, *flags_of([name])]
        else:
            found[name] = flags_of([name])
    recipes = [name_of(path) for path in shipped()]
    return {**found, **{name: [*recipes, *found[name]] for name in ("recipe show", "recipe copy")}}


def flags_of(command: list[str]) -> list[str]:
    """The flags that a command's help page names."""
    recipe = [f"--{name.replace('_', '-')}" for name in all_names()] if command[0] in WITH_RECIPE else []
    page = io.StringIO()
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        importlib.import_module(f"sightline.cli.{command[0].replace('-', '_')}").run([*command[1:], "--help"])
    return list(dict.fromkeys([*FLAG.findall(page.getvalue()), *recipe]))
