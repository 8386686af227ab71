"""Write completion scripts for bash, zsh and fish. Pure: shapes in, text out.

The scripts hold all commands and options; for job ids they ask `spooldadd completion --list-jobs`, which looks at names
only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from spooldadd.cli import shapes
from spooldadd.cli.shapes import Option, Shape, Value

# Which jobs a command may be asked about; others take any.
STATES = {
    "retry": ("failed", "waiting", "done"),
    "cancel": ("running", "waiting"),
    "hold": ("waiting",),
    "release": ("waiting",),
}


def bash(commands: Sequence[Shape]) -> str:
    """Return the script for bash."""
    words = "\n".join(shape.name for shape in commands)
    top = _flags(shapes_options_before(commands))
    values = "\n".join(_bash_values(shape) for shape in commands)
    rest = "\n".join(_bash_rest(shape) for shape in commands)
    return _BASH.format(commands=words, top=top, values=values, rest=rest)


def zsh(commands: Sequence[Shape]) -> str:
    """Return the script for zsh."""
    described = "\n".join(f"        {_zsh_quoted(f'{shape.name}:{shape.summary}')}" for shape in commands)
    cases = "\n".join(_zsh_case(shape) for shape in commands)
    return _ZSH.format(commands=described, cases=cases)


def fish(commands: Sequence[Shape]) -> str:
    """Return the script for fish."""
    return _FISH + "".join(line for shape in commands for line in _fish_lines(shape))


def shapes_options_before(commands: Sequence[Shape]) -> list[Option]:
    """Return the options that may stand before the command, too: every command has them."""
    return [option for option in commands[0].options if shapes.GLOBAL.intersection(option.flags)]


def _flags(options: Iterable[Option]) -> str:
    return "\n".join(flag for option in options for flag in option.flags)


_BASH = """\
# Completion of spooldadd for bash. Load it with: source <(spooldadd completion bash)
_spooldadd_jobs() {{
    local -a where=()
    [[ $spool ]] && where=(--spool "$spool")
    "${{COMP_WORDS[0]}}" "${{where[@]}}" completion --list-jobs "$@" 2>/dev/null
}}
_spooldadd_choose() {{
    COMPREPLY+=($(compgen -W "$1" -- "$cur"))
}}
_spooldadd_files() {{
    compopt -o filenames 2>/dev/null
    COMPREPLY+=($(compgen "$1" -- "$cur"))
}}
_spooldadd() {{
    local IFS=$'\\n' cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command= spool= i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            --spool) spool=${{COMP_WORDS[i+1]}}; ((i++)) ;;
            --config) ((i++)) ;;
            -*) ;;
            *) [[ $command ]] || command=${{COMP_WORDS[i]}} ;;
        esac
    done
    if [[ ! $command ]]; then
        case $prev in
            --spool) _spooldadd_files -d; return ;;
            --config) _spooldadd_files -f; return ;;
        esac
        if [[ $cur == -* ]]; then _spooldadd_choose '{top}'; else _spooldadd_choose '{commands}'; fi
        return
    fi
    case "$command $prev" in
{values}
    esac
    case "$command $cur" in
{rest}
    esac
}}
complete -F _spooldadd spooldadd
"""


def _bash_values(shape: Shape) -> str:
    """Complete what follows an option that takes a value."""
    lines = []
    for option in shape.options:
        if option.value is not None:
            pattern = "|".join(f"'{shape.name} {flag}'" for flag in option.flags)
            lines.append(f"        {pattern}) {_bash_action(shape, option.value)} return ;;")
    return "\n".join(lines)


def _bash_rest(shape: Shape) -> str:
    actions = " ".join(_bash_action(shape, one.value) for one in shape.positionals)
    options = f"        '{shape.name} -'*) _spooldadd_choose '{_flags(shape.options)}' ;;"
    return f"{options}\n        '{shape.name} '*) {actions or ':'} ;;"


def _bash_action(shape: Shape, value: Value) -> str:
    if value.choices:
        words = "\n".join(value.choices)
        return f"_spooldadd_choose '{words}';"
    if value.kind == shapes.JOB:
        return f'_spooldadd_choose "$(_spooldadd_jobs {" ".join(STATES.get(shape.name, ()))})";'
    return {shapes.FILE: "_spooldadd_files -f;", shapes.DIRECTORY: "_spooldadd_files -d;"}.get(value.kind, "")


_ZSH = """\
#compdef spooldadd
# Completion of spooldadd for zsh: a file called _spooldadd in a directory of $fpath, or source <(spooldadd completion zsh)
_spooldadd_jobs() {{
    local -a found spool
    [[ -n ${{opt_args[--spool]}} ]] && spool=(--spool ${{opt_args[--spool]}})
    found=(${{(f)"$(spooldadd $spool completion --list-jobs "$@" 2>/dev/null)"}})
    compadd -a found
}}
_spooldadd() {{
    local curcontext=$curcontext state line
    local -a commands
    typeset -A opt_args
    commands=(
{commands}
    )
    _arguments -C '--spool[the spool]:DIR:_files -/' '--config[the configuration]:FILE:_files' \\
        '1: :->command' '*:: :->rest'
    case $state in
        command) _describe -t commands command commands ;;
        rest)
            case $words[1] in
{cases}
            esac ;;
    esac
}}
if [[ $funcstack[1] == _spooldadd ]]; then _spooldadd "$@"; else compdef _spooldadd spooldadd; fi
"""


def _zsh_case(shape: Shape) -> str:
    specs = [_zsh_option(shape, flag, option) for option in shape.options for flag in option.flags]
    specs += [_zsh_quoted(f"*:{one.value.metavar}:{_zsh_action(shape, one.value)}") for one in shape.positionals[:1]]
    lines = " \\\n".join(f"                        {spec}" for spec in specs)
    return f"                {shape.name}) _arguments \\\n{lines} ;;"


def _zsh_option(shape: Shape, flag: str, option: Option) -> str:
    text = f"{flag}[{_zsh_plain(option.help)}]"
    if option.value is not None:
        text += f":{_zsh_plain(option.value.metavar)}:{_zsh_action(shape, option.value)}"
    return _zsh_quoted(f"*{text}")


def _zsh_action(shape: Shape, value: Value) -> str:
    if value.choices:
        return f"({' '.join(value.choices)})"
    jobs = " ".join(["_spooldadd_jobs", *STATES.get(shape.name, ())])
    return {shapes.FILE: "_files", shapes.DIRECTORY: "_files -/", shapes.JOB: jobs}.get(value.kind, " ")


def _zsh_plain(text: str) -> str:
    """Take the marks of `_arguments` out of a text."""
    return text.translate({ord("["): "(", ord("]"): ")", ord(":"): " "})


def _zsh_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


_FISH = """\
# Completion of spooldadd for fish. Load it with: spooldadd completion fish | source
function __spooldadd_jobs
    set -l words (commandline -opc)
    set -l spool
    for i in (seq 2 (count $words))
        test $words[$i] = --spool; and set spool --spool $words[(math $i + 1)]
    end
    spooldadd $spool completion --list-jobs $argv 2>/dev/null
end
complete -c spooldadd -f
complete -c spooldadd -l spool -r -a '(__fish_complete_directories)' -d 'the spool'
complete -c spooldadd -l config -r -F -d 'the configuration'
"""


def _fish_lines(shape: Shape) -> Iterable[str]:
    yield f"complete -c spooldadd -n __fish_use_subcommand -a {shape.name} -d {_fish_quoted(shape.summary)}\n"
    seen = f"complete -c spooldadd -n '__fish_seen_subcommand_from {shape.name}'"
    for option in shape.options:
        if not {"--spool", "--config"}.intersection(option.flags):
            flags = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
            value = f" -r {_fish_action(shape, option.value)}".rstrip() if option.value else ""
            yield f"{seen} {flags}{value} -d {_fish_quoted(option.help)}\n"
    for one in shape.positionals:
        action = _fish_action(shape, one.value)
        if action:
            yield f"{seen} {action}\n"


def _fish_action(shape: Shape, value: Value) -> str:
    if value.choices:
        return f"-a {_fish_quoted(' '.join(value.choices))}"
    if value.kind == shapes.JOB:
        return f"-a '({' '.join(['__spooldadd_jobs', *STATES.get(shape.name, ())])})'"
    return {shapes.FILE: "-F", shapes.DIRECTORY: "-a '(__fish_complete_directories)'"}.get(value.kind, "")


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS: dict[str, Callable[[Sequence[Shape]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
