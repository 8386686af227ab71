"""Write and move files so that it survives a crash. Knows no word of the domain, and only the standard library.

`sync=True` survives a power cut; `sync=False` survives the death of processes only, at a third less cost. The order for
a move is: the file, the rename, the target directory, then the source directory. On btrfs the target alone leaves the
file in both places after a power cut; the source alone could lose it on a disk that writes in any order. What has no order
among itself is made last together (`at_once`), which waits once for all of it: on a disk of this machine only.

If we die here: a temporary name (`.tmp-…`) beside the target; whoever owns the directory removes it by `is_temporary`.
"""

from __future__ import annotations

import errno
import os
import time

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TEMPORARY = ".tmp-"
AT_FDCWD, RENAME_NOREPLACE = -100, 1
FILE_MODE = 0o644
# What a file system answers that cannot make a directory last, and need not. For anything but a directory it is an error.
NO_SUCH_CALL = (errno.EINVAL, errno.ENOTSUP)
# What is said of a name that leads to no file that we may read: it is gone, a link, a pipe, or another's.
NO_FILE = (errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.EACCES)
# And of one that leads to no directory: what was in it is elsewhere or nowhere.
NO_DIRECTORY = (errno.ENOENT, errno.ENOTDIR)
# A link in a file's place is not followed, and a pipe not waited for: a job can put anything where its log was. A spool may
# be a link itself.
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_DIRECTORY = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
# How long a reader of one of our small files may take: a client closes it up to a second late.
REPLACE_PAUSES_S = (0.02, 0.08, 0.3, 1.0)


def is_temporary(name: str) -> bool:
    """Tell whether this is the name of a file that `write` had not finished."""
    return name.startswith(TEMPORARY)


def sync_directory(path: str) -> None:
    """Make the names in this directory last. File systems that know no such call (EINVAL) need none."""
    fd = os.open(path, _DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in NO_SUCH_CALL:
            raise
    finally:
        os.close(fd)


def sync_file(path: str) -> None:
    """Make the contents of this file last."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directories(paths: Sequence[str], *, at_once: bool) -> None:
    """Make the names in these last; in which order is all the same. Raises: OSError for one that could not be."""
    for path, number in sync_each((), paths, at_once=at_once).items():
        raise OSError(number, os.strerror(number), path)


def sync_each(files: Sequence[str], directories: Sequence[str], *, at_once: bool) -> dict[str, int]:
    """Make these last; return the number of the error of each that could not be, or could not be opened."""
    found: dict[str, int] = {}
    opened: dict[int, str] = {}
    try:
        for path in (*files, *directories):
            try:
                opened[os.open(path, _DIRECTORY if path in directories else _FILE)] = path
            except OSError as error:
                found[path] = error.errno or errno.EIO
        for path, number in zip(opened.values(), _sync_fds(list(opened), at_once=at_once), strict=True):
            if number and not (number in NO_SUCH_CALL and path in directories):
                found[path] = number
    finally:
        for fd in opened:
            os.close(fd)
    return found


def _sync_fds(fds: Sequence[int], *, at_once: bool) -> list[int]:
    from spooldadd import together  # late: it needs ctypes, which takes 3 ms, and those who read load this module

    return together.sync(fds, at_once=at_once)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte: a single `write` may stop short, on a nearly full disk it does."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def overwrite(fd: int, data: bytes) -> None:
    """Replace the lines of an open file, and stand behind the new ones: all who share its offset go on there.

    With empty lines to its end, and not cut: ext4 takes 4 ms to cut a file that was just written. Not where it was opened to
    append. Raises: OSError.
    """
    os.lseek(fd, 0, os.SEEK_SET)
    write_all(fd, data.ljust(os.fstat(fd).st_size, b"\n"))
    os.lseek(fd, len(data), os.SEEK_SET)


def append(fd: int, path: str, data: bytes, *, sync: bool) -> None:
    """Write more to a file that we have open; where the descriptor answers no more, to the file of this name.

    sshfs forgets what was open when it has to connect anew, and then answers EIO to that descriptor for ever.
    Raises: OSError where neither can be written; a part of it may be in the file then. PermissionError where the file is
    locked against us: then it is by every descriptor.
    """
    try:
        _append(fd, data, sync=sync)
    except PermissionError:
        raise
    except OSError:
        again = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _append(again, data, sync=sync)
        finally:
            os.close(again)


def _append(fd: int, data: bytes, *, sync: bool) -> None:
    write_all(fd, data)
    if sync:
        os.fsync(fd)


def write_new(path: str, data: bytes, *, sync: bool, mode: int = FILE_MODE) -> None:
    """Write a file that must not exist yet, in a place that no reader looks at before it is complete.

    Raises: FileExistsError where it exists; OSError, after which no part of it is left.
    """
    write_new_by(path, lambda fd: write_all(fd, data), sync=sync, mode=mode)


def write_new_by(path: str, fill: Callable[[int], None], *, sync: bool, mode: int = FILE_MODE) -> None:
    """Do as `write_new` does, with what `fill` writes to the descriptor that it is given.

    Raises: FileExistsError where it exists; OSError and whatever `fill` raises, after which no part of it is left.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        try:
            fill(fd)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)  # may fail, too: a network file system tells only then that there was no room
    except BaseException:
        unlink_if_there(path)
        raise


def write(path: str, data: bytes, *, sync: bool, mode: int = FILE_MODE) -> None:
    """Put this file in place at once: a reader sees the old or the new contents, never a part.

    Raises: OSError, after which the old contents stand and no part of the new is left.
    """
    _put_in_place(_write_temporary(path, data, sync=sync, mode=mode), path)
    if sync:
        sync_directory(os.path.dirname(path))


def write_beside(
    path: str, data: bytes, others: Sequence[str], *, directories: Sequence[str] = (), at_once: bool
) -> list[str]:
    """Do as `write` does with `sync`; before the file is put in place, other files and directories are made last beside it.

    Return the files of which the disk lost something: then nothing was put in place. It is told once: the kernel forgets it,
    and a second call would say that all is well. Source: fsync(2). What is not there is passed over, and a file that is
    empty: of that nothing is lost, and most jobs print nothing. Raises: OSError.
    """
    others = [other for other in others if _holds_something(other)]
    temporary = _write_temporary(path, data, sync=False, mode=FILE_MODE)
    errors = sync_each([*others, temporary], directories, at_once=at_once)
    lost = [other for other in others if errors.get(other) == errno.EIO]
    passed_over = {**dict.fromkeys(others, NO_FILE), **dict.fromkeys(directories, NO_DIRECTORY)}
    wrong = {path: number for path, number in errors.items() if number not in passed_over.get(path, ())}
    if wrong:
        unlink_if_there(temporary)
        if not lost:
            failed, number = wrong.popitem()
            raise OSError(number, os.strerror(number), failed)
        return lost
    _put_in_place(temporary, path)
    sync_directory(os.path.dirname(path))
    return []


def _holds_something(path: str) -> bool:
    try:
        return os.lstat(path).st_size > 0
    except OSError:
        return True  # whoever opens it says why


def _write_temporary(path: str, data: bytes, *, sync: bool, mode: int) -> str:
    directory, slash, name = path.rpartition("/")
    temporary_name = f"{TEMPORARY}{os.getpid()}-{name}"[:250]
    temporary = f"{directory}{slash}{temporary_name}"
    try:
        write_new(temporary, data, sync=sync, mode=mode)
    except FileExistsError:  # a process of our pid died here before, or NFS answers a repeated call
        unlink_if_there(temporary)
        write_new(temporary, data, sync=sync, mode=mode)
    return temporary


def _put_in_place(temporary: str, path: str) -> None:
    try:
        _replace(temporary, path)
    except OSError as error:
        if not is_done_all_the_same(error, temporary, path):
            unlink_if_there(temporary)
            raise


def _replace(source: str, target: str) -> None:
    """Rename over what is there. SMB refuses that while somebody on this machine reads it, which soon is over."""
    for pause_s in REPLACE_PAUSES_S:
        try:
            os.rename(source, target)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EBUSY):
                raise
        else:
            return
        time.sleep(pause_s)
    os.rename(source, target)


def is_done_all_the_same(error: OSError, source: str, target: str) -> bool:
    """Tell whether a rename to a name of ours has happened, though its answer says that there was nothing to rename.

    A network file system that repeats a call whose answer was lost finds it done, and says so in this way.
    """
    is_lie = error.errno in (errno.ENOENT, errno.ESTALE)
    return is_lie and not os.path.lexists(source) and os.path.lexists(target)


def sync_move(source: str, target: str) -> None:
    """Make a rename that was done last: target directory first, then the source."""
    target_directory, source_directory = os.path.dirname(target), os.path.dirname(source)
    sync_directory(target_directory)
    if source_directory != target_directory:
        sync_directory(source_directory)


def move(source: str, target: str, *, sync: bool) -> None:
    """Rename, and make it last. Raises: OSError from the rename or from making it last."""
    os.rename(source, target)
    if sync:
        sync_move(source, target)


def close(fd: int) -> None:
    """Close what nobody waits for any more. A share that was away answers with an error for files that were open then."""
    try:
        os.close(fd)
    except OSError:
        pass  # it is closed all the same. Source: close(2)


def is_listed(path: str) -> bool:
    """Tell whether the directory lists this name: so is seen at once what another node has made.

    NFS and sshfs remember for half a minute that a name was not there when it was asked for; a listing they read anew.
    """
    directory, name = os.path.split(path)
    try:
        return name in os.listdir(directory)
    except OSError:
        return False


def unlink_if_there(path: str) -> None:
    """Remove a file of ours that may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def rename_new(source: str, target: str) -> None:
    """Rename to a name that must be free, in one step; where the file system cannot do that, link and unlink.

    Raises: FileExistsError where the name is taken; OSError.
    """
    number = _rename_no_replace(os.fsencode(source), os.fsencode(target))
    if number in (errno.EINVAL, errno.ENOSYS):  # NFS, for one; there two names are seen for a moment
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            if not os.path.samestat(os.lstat(source), os.lstat(target)):  # else our own call was repeated
                raise
        unlink_if_there(source)
    elif number:
        raise OSError(number, os.strerror(number), source, None, target)


def _rename_no_replace(source: bytes, target: bytes) -> int:
    """Return 0 or the error's number. Source: renameat2(2)."""
    import ctypes  # late: those who read load this module, and that one takes 3 ms

    libc = ctypes.CDLL(None, use_errno=True)
    try:
        done = libc.renameat2(AT_FDCWD, source, AT_FDCWD, target, RENAME_NOREPLACE)
    except AttributeError:  # a C library before glibc 2.28 or musl 1.2.6
        return errno.ENOSYS
    return 0 if done == 0 else ctypes.get_errno()


def printable(name: str) -> str:
    """Return a file name with the bytes that are no text shown as `\\xNN`: for messages and for TOML."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
