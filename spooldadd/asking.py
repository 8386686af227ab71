"""Ask a command for a secret, from a program that may be heavy: the builder, the notifier, a reading command.

A supervisor asks by its own means: see `kit`.

If we die here: the command goes on until its own end.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping

from spooldadd import secret
from spooldadd.config import Config


def printed(words: list[str], timeout_s: float) -> bytes:
    """Return what a command prints; its complaints are not shown, for they may hold what it was asked for.

    Raises: NoSecret.
    """
    try:
        nothing = subprocess.DEVNULL
        done = subprocess.run(words, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise secret.NoSecret(f"`{words[0]}` was ended: it took longer than {timeout_s:g} s") from error
    except OSError as error:
        raise secret.NoSecret(f"`{words[0]}` cannot be started: {error.strerror}") from error
    if done.returncode:
        raise secret.NoSecret(f"`{' '.join(words)}` failed with exit code {done.returncode}")
    return done.stdout


def reader(config: Config, environ: Mapping[str, str]) -> Callable[[str], str]:
    """Return what gives a secret of this node as a text without its last line break; each is asked for once.

    It raises: NoSecret.
    """
    sources = config.secrets.sources(config.secrets_dir, environ)
    known: dict[str, str] = {}

    def read(name: str) -> str:
        if name not in known:
            text = secret.read(name, sources, printed).decode("utf-8", "surrogateescape")
            known[name] = text.removesuffix("\n").removesuffix("\r")
        return known[name]

    return read
