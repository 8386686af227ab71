"""The files of one job: what each attempt leaves, and how it makes room for the next. Light: the launcher loads it.

A record moves; it is never copied. `claim.toml` is written once, before the attempt starts; `result.toml` once, and at
that instant the attempt is finished. Both name their attempt, so what is left of an earlier one is told apart.

If we die here: in `rotate`, some files of the earlier attempt are in `attempts/N` and some are not; whoever claims or
recovers the record calls it again.
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime

from spooldadd import durable, forms, layout, names
from spooldadd.names import SECONDS
from spooldadd.tomltext import Written, flat

SCHEMA = 1
# Far above what a spec may ask for. A larger number comes from no claim of ours, and would not fit into a name.
MAX_ATTEMPT = 999_999
# Far beyond any table of ours.
MAX_TABLE_BYTES = 1 << 20

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeVar

    T = TypeVar("T")


def write_claim(record: str, claim: Mapping[str, object], *, sync: bool) -> None:
    """Write who claimed this attempt, where and when. Raises: OSError."""
    durable.write(os.path.join(record, layout.CLAIM), claim_data(claim), sync=sync)


def claim_data(claim: Mapping[str, object]) -> bytes:
    """Return what stands in `claim.toml`."""
    return flat({"schema": SCHEMA, **claim}).encode()


def write_first_claim(record: str, claim: Mapping[str, object], *, sync: bool) -> None:
    """Do the same in a record that has no spec yet: what is half-written there counts for nothing. Raises: OSError.

    Without `sync` whoever claims makes the file last afterwards, and starts nothing before.
    """
    path = f"{record}/{layout.CLAIM}"
    try:
        durable.write_new(path, claim_data(claim), sync=sync)
    except FileExistsError:  # our own call was repeated, and its first answer lost
        write_claim(record, claim, sync=sync)
        return
    if sync:
        durable.sync_directory(record)


def write_result(record: str, result: Mapping[str, object], *, sync: bool) -> None:
    """Write how the attempt ended: from this instant on it is finished. Raises: OSError."""
    _put_result(record, result, lambda path, data: durable.write(path, data, sync=sync))


def write_last_result(
    record: str, result: Mapping[str, object], logs: Iterable[str], *, directories: Sequence[str] = (), at_once: bool
) -> list[str]:
    """Do the same so that it lasts, and before it these logs, and the names in these directories: waited for together.

    Return the logs of which the disk lost something. Then no result is written yet, so that its reason can say so: another
    call without these logs does the rest. Raises: OSError.
    """
    paths = [f"{record}/{log}" for log in logs]

    def put(path: str, data: bytes) -> list[str]:
        return durable.write_beside(path, data, paths, directories=directories, at_once=at_once)

    lost = _put_result(record, result, put)
    return [os.path.basename(path) for path in lost]


def _put_result(record: str, result: Mapping[str, object], put: Callable[[str, bytes], T]) -> T:
    path = f"{record}/{layout.RESULT}"
    data = flat({"schema": SCHEMA, **result}).encode()
    try:
        return put(path, data)
    except IsADirectoryError:  # a job made it; it must not keep its own result from being filed for ever
        os.rename(path, f"{path}.{names.random_part()}")
        return put(path, data)


def read_table(path: str) -> dict[str, object] | None:
    """Return the TOML table in this file of ours, or None where it is missing, half-written or not TOML.

    A job can write into its record: neither a link, nor a pipe, nor a file without end may catch a reader.
    """
    import tomllib  # late: the launcher writes tables, it reads none

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_TABLE_BYTES:
            return None
        with open(fd, "rb", closefd=False) as file:
            return tomllib.loads(file.read(MAX_TABLE_BYTES).decode())
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(fd)


def read_result(record: str, attempt: int) -> dict[str, object] | None:
    """Return the result of this attempt; an earlier attempt's result is none."""
    table = read_table(os.path.join(record, layout.RESULT))
    return table if table is not None and table.get("attempt") == attempt else None


def read_claim(record: str, attempt: int) -> dict[str, object] | None:
    """Return the claim of this attempt; an earlier attempt's claim is none."""
    table = read_table(os.path.join(record, layout.CLAIM))
    return table if table is not None and table.get("attempt") == attempt else None


def last_attempt(record: str) -> int:
    """Return the number of the last attempt that left a claim or files in this record, 0 where there was none."""
    claim = read_table(os.path.join(record, layout.CLAIM)) or {}
    number = claim.get("attempt")
    earlier = _entries(os.path.join(record, layout.ATTEMPTS))
    numbers = [int(entry) for entry in earlier if entry.isascii() and entry.isdigit()]
    numbers += [number] if isinstance(number, int) else []
    return max((number for number in numbers if 0 < number <= MAX_ATTEMPT), default=0)


def submitted_at_s(record: str, job: str) -> float:
    """Return when this job was submitted: as its first claim says, else as its id does, to the second."""
    for place in ("", os.path.join(layout.ATTEMPTS, "1")):
        claim = read_table(os.path.join(record, place, layout.CLAIM)) or {}
        at_s = seconds(claim.get("submitted_at"))
        if at_s is not None:
            return at_s
    parts = names.parse_job_id(job)
    try:
        return datetime.strptime(parts[1] if parts else "", "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:  # digits, but no time: nobody but a person has made this name
        return 0.0


def seconds(value: object) -> float | None:
    """Return the seconds since the epoch of a time from one of our tables, or None for what is no time with a zone."""
    return value.timestamp() if isinstance(value, datetime) and value.tzinfo is not None else None


def own_name(record: str, job: str, spec: str = "") -> str:
    """Return the name that a job's spec had where it was dropped; of one that came by `submit`, the job's with its suffix.

    `spec` is the spec's path, where it is known.

    So it is, too, where nobody knows any more: a first claim that was given up leaves nothing behind.
    """
    suffix = os.path.splitext(spec or layout.find_spec(record))[1]
    if suffix == forms.TOML:
        return names.job_name(job) + suffix  # nobody asks how a TOML file was called, and to look costs a read
    for place in (os.path.join(layout.ATTEMPTS, "1"), ""):
        claim = read_table(os.path.join(record, place, layout.CLAIM)) or {}
        inbox, slash, source = layout.bare_name(str(claim.get("source") or "")).rpartition("/")
        source = source if not slash or layout.is_inbox(inbox) else ""
        is_name = not {"/", "\0"} & set(source)  # a job can write into its record, and must not lead us elsewhere
        if is_name and source.endswith(suffix) and names.source_job_id(source, suffix) is None:
            return source
    return names.job_name(job) + suffix


def moment(at_s: float) -> datetime:
    """Return seconds since the epoch as a time in UTC, in milliseconds: the same that `written` writes."""
    return datetime.fromtimestamp(round(at_s * 1000) / 1000, UTC)


def written(at_s: float) -> Written:
    """Return the same as it stands in a table of ours: each job writes six of them, most within the same second."""
    second, part = divmod(round(at_s * 1000), 1000)
    return Written(f"{SECONDS[second]}.{part:03d}000Z" if part else f"{SECONDS[second]}Z")


def rotate(record: str, attempt: int, *, sync: bool) -> None:
    """Move what an earlier attempt left into `attempts/N`, so that `attempt` begins with a clean record.

    To be called under the lease, before the claim of `attempt` is written. Raises: OSError.
    """
    if read_claim(record, attempt) is not None:
        return
    left = [entry for entry in _entries(record) if entry not in layout.JOB_ENTRIES and not layout.inbox_node(entry)]
    if not left:
        return
    number = last_attempt(record)
    if not number:  # nothing ever started: to put a marker aside as an attempt's would count one
        for entry in {layout.CANCEL, layout.NOW}.intersection(left):
            os.unlink(os.path.join(record, entry))
        return
    target = os.path.join(record, layout.ATTEMPTS, str(number))
    for directory in (os.path.dirname(target), target):  # never the record itself: it may be away
        _make_directory(directory)
    # The claim goes last: until then it still says which attempt the other files belong to.
    for entry in sorted(left, key=lambda name: (name == layout.CLAIM, name)):
        if not durable.is_temporary(entry):
            _move(os.path.join(record, entry), os.path.join(target, entry))
    if sync:
        durable.sync_directory(target)
        durable.sync_directory(os.path.dirname(target))
        durable.sync_directory(record)


def _make_directory(path: str) -> None:
    """Make it. What a job has put in its place, a file or a link that leads elsewhere, is put aside. Raises: OSError."""
    try:
        os.mkdir(path)
    except FileExistsError:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            return
        os.rename(path, f"{path}.{names.random_part()}")
        os.mkdir(path)


def _move(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except OSError as error:
        if not durable.is_done_all_the_same(error, source, target):
            raise


def remove_temporaries(record: str) -> None:
    """Remove what a process that died here had not finished writing. Under the lease only. Raises: OSError."""
    for entry in _entries(record):
        path = os.path.join(record, entry)
        if durable.is_temporary(entry) and not os.path.isdir(path):  # a directory is none of ours
            os.unlink(path)


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
