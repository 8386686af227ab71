"""What an exit code, a signal or an outcome means, one sentence each. Pure.

Source: sysexits(3), signal(7), bash(1) "EXIT STATUS", timeout(1), and Python's own use of 1, 2 and 120.
"""

from __future__ import annotations

import signal

from spooldadd.mail.result import Result

EXIT_CODES = {
    1: "A general failure; a Python script ends so after an exception that nobody caught.",
    2: "Usually a wrong use of the command: a mistaken option or argument, or a syntax error in a shell script.",
    64: "The command was used wrongly (EX_USAGE).",
    65: "The input data was wrong (EX_DATAERR).",
    66: "An input file does not exist or cannot be read (EX_NOINPUT).",
    67: "A user does not exist (EX_NOUSER).",
    68: "A host does not exist (EX_NOHOST).",
    69: "A service that it needs is not available (EX_UNAVAILABLE).",
    70: "The program found a fault in itself (EX_SOFTWARE).",
    71: "The operating system refused something, for example to fork (EX_OSERR).",
    72: "A file of the system is missing or broken (EX_OSFILE).",
    73: "An output file cannot be made (EX_CANTCREAT).",
    74: "Reading or writing failed (EX_IOERR).",
    75: "A failure that may pass: trying again may help (EX_TEMPFAIL).",
    76: "The other side did not keep to the protocol (EX_PROTOCOL).",
    77: "It lacks the permission for what it tried (EX_NOPERM).",
    78: "Its configuration is wrong (EX_CONFIG).",
    120: "Python could not write out the last of its output, for example because the disk is full.",
    124: "A command in it was stopped by `timeout` because it took too long.",
    125: "A wrapper such as `timeout`, `docker` or `git bisect` failed itself.",
    126: "The command was found but cannot be run: it is no program, or the permission to execute it is missing.",
    127: "The command was not found: check the spelling and PATH.",
    128: "It gave an exit code that is none; `git` ends so after a fatal error.",
    255: "It ended with -1 or with an error of `ssh` itself.",
}
SIGNALS = {
    "SIGHUP": "its terminal or session went away",
    "SIGINT": "it was interrupted, as by Ctrl-C",
    "SIGQUIT": "it was told to quit and dump core",
    "SIGILL": "it ran an instruction that this processor does not have, often a binary for another machine",
    "SIGTRAP": "it hit a breakpoint",
    "SIGABRT": "it ended itself after a check of its own failed (abort)",
    "SIGBUS": "it touched memory that is not there, often a mapped file that became shorter or a full disk",
    "SIGFPE": "it divided by zero or the like",
    "SIGKILL": "somebody killed it, or the kernel did because memory ran out",
    "SIGSEGV": "it touched memory that it must not, a fault in the program or in a library (segmentation fault)",
    "SIGPIPE": "it wrote into a pipe that nobody reads any more",
    "SIGALRM": "a timer of its own ran out",
    "SIGTERM": "it was asked to end",
    "SIGXCPU": "it used more CPU time than it may",
    "SIGXFSZ": "it wrote a file larger than it may",
    "SIGSYS": "it made a system call that is forbidden here",
}
OUTCOMES = {
    "success": "It ended as it should.",
    "timeout": "It ran for longer than its limit `timeout` and was stopped.",
    "stall": "It gave no output and used no CPU for as long as its limit `stall`, so it was stopped.",
    "output": "It wrote more output than its limit `output` and was stopped.",
    "oom": "It used more memory than it was allowed, and the kernel killed it.",
    "build": "Its environment could not be built, so the job itself never started.",
    "invalid": "Its spec cannot be run as it is, so it never started; mend the spec and drop it again.",
    "cancelled": "Somebody cancelled it.",
    "lost": "Its supervisor ended without a result: the node went down, or was killed with everything on it.",
}


def explain(result: Result) -> str:
    """Say in one sentence what the outcome means for a person who has to act on it."""
    if result.outcome == "exit" and result.exit_code is not None:
        sentence = explain_exit_code(result.exit_code)
    elif result.outcome == "signal" and result.signal is not None:
        sentence = explain_signal(result.signal)
    else:
        sentence = OUTCOMES.get(result.outcome, f"It ended with the outcome `{result.outcome}`.")
    if result.max_rss_bytes and (result.outcome == "oom" or _is_killed(result)):
        return f"{sentence[:-1]}; its largest process had {readable_size(result.max_rss_bytes)}."
    return sentence


def explain_exit_code(code: int) -> str:
    """Say what an exit code means; 128+n is how a shell tells that a command died from signal n."""
    if code == 0:
        return OUTCOMES["success"]
    if code in EXIT_CODES:
        return EXIT_CODES[code]
    if 128 < code < 128 + 65:
        name = signal_name(code - 128)
        return f"A command in it was killed by {name} ({code} is 128+{code - 128}): {_why(name)}."
    return "A failure of its own; the command's documentation says what this code means."


def explain_signal(number: int) -> str:
    """Say what it means to be killed by this signal."""
    name = signal_name(number)
    return f"It was killed by {name} (signal {number}): {_why(name)}."


def signal_name(number: int) -> str:
    """Return the name of a signal, also of those without one."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def readable_size(size_bytes: int) -> str:
    """Return a size as a person reads it."""
    size = float(size_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _why(name: str) -> str:
    return SIGNALS.get(name, "its default action is to end the process")


def _is_killed(result: Result) -> bool:
    killed = int(signal.SIGKILL)
    return result.signal == killed or result.exit_code == 128 + killed
