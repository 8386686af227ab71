"""spooldadd: drop a TOML spec into a directory, find it in `done/` or `failed/` with its logs and the reason.

The directory is the database: `ls` shows the state, `mv` changes it.

The life of a spec:

1. Somebody drops `nightly.toml` into the spool, by any tool or by `submit`                  `submitting`
2. A worker notices it and waits until nobody writes to it any more                          `watch`, `intake`
3. It reads what decides the order, and picks what may run here and now                      `backlog`, `worker`
4. It claims the job: takes the lease, makes the record, renames the spec into it            `spool`, `claim`
5. It checks the spec and makes a plan of it; a wrong spec is filed with every error         `spec`, `planning`, `launching`
6. The launcher forks a supervisor, which inherits the lease                                 `launcher`, `crew`
7. The supervisor runs the job within its limits, whatever becomes of the worker             `supervisor`, `guard`, `tree`
8. It writes `result.toml`: the attempt is finished at this instant                          `lifecycle`, `record`
9. It moves the record to `done/`, `failed/`, or `waiting/` for another attempt              `filing`
10. What a crash leaves at any of these steps is brought back to a known state               `recovery`

To read the code, begin with what needs nothing else: `errors`, `names`, `layout`, `lifecycle`, `durable`, `record`. Then the
life above, in its order. `inspect` is what the reading commands see, `acting` what the acting ones do, `cli` has a file for
each command, and `api` is the same for programs:

    from spooldadd import Spool, SpecError

    job = Spool("/srv/spool").submit("nightly.toml")
    print(job.wait()["outcome"])

This module imports next to nothing: the launcher loads it, and every fork would pay for it.
"""

from spooldadd.release import __version__

__all__ = [
    "Job",
    "NoSuchJob",
    "NotASpool",
    "NotPossible",
    "SpecError",
    "Spool",
    "SpoolError",
    "SpooldaddError",
    "__version__",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spooldadd.api import Job, Spool
    from spooldadd.errors import NoSuchJob, NotASpool, SpecError, SpooldaddError, SpoolError
    from spooldadd.permission import NotPossible

_HOMES = {"Job": "api", "Spool": "api", "NotPossible": "permission"}


def __getattr__(name: str) -> object:
    """Import the public names when they are asked for."""
    if name not in __all__:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
