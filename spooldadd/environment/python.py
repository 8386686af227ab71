"""The `[python]` table: from what a spec asks for to an environment that is there, held, and known by its key.

    read the requirements, find the interpreter, resolve (or reuse a resolution), provide the environment, point to it

The pointer is what `ready.find_ready` reads, so the next job that asks for the same starts no builder.

If we die here: an old pointer or resolution, or none; the next builder does the rest again.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from spooldadd import durable
from spooldadd.environment import manifest, ready
from spooldadd.environment.credentials import Secrets
from spooldadd.environment.environments import Environments, Recipe
from spooldadd.environment.fetch import Fetcher, Request
from spooldadd.environment.installers import Installer, Place, Setting, open_installer
from spooldadd.environment.interpreters import Interpreter, find_interpreter
from spooldadd.environment.locks import Form, Inputs, Lock, form_of, refuse_directories
from spooldadd.environment.models import PythonTable
from spooldadd.environment.report import Report
from spooldadd.environment.tool import Tool, run_tool
from spooldadd.errors import BuildError

# For what is locked: the year 5138, and still a number that every reader takes.
FOR_EVER_S: Final = 1e11
SCRATCH: Final = ".resolve-"


@dataclass(frozen=True)
class Workshop:
    """What a build works with."""

    cache_dir: str
    base_dirs: tuple[str, ...]  # where relative paths of the table are looked for, in order
    fetcher: Fetcher
    secrets: Secrets
    report: Report
    clock: Callable[[], float] = time.time


@dataclass(frozen=True)
class Resolution:
    """A lock, for which interpreter, and until when it may be reused."""

    lock: Lock
    interpreter: Interpreter
    fresh_until_s: float


@dataclass(frozen=True)
class _Job:
    table: PythonTable
    installer: Installer
    shop: Workshop
    identity: str  # of the logins: what one may see of an index, another may not


def provide(told: Mapping[str, object], shop: Workshop) -> ready.Ready:
    """Return the environment for a rendered `[python]` table, built where needed, held. Raises: `BuildError`."""
    job = _job(told, shop)
    resolution = _resolve(job)
    found, _ = Environments(shop.cache_dir, shop.report, clock=shop.clock).provide(_recipe(job, resolution))
    _point(told, shop, resolution, found.key)
    return found


def resolve(told: Mapping[str, object], shop: Workshop) -> Resolution:
    """Return what the table means today, without building it: what `spooldadd lock` writes down."""
    return _resolve(_job(told, shop))


def _job(told: Mapping[str, object], shop: Workshop) -> _Job:
    table = PythonTable.model_validate(dict(told))
    logins = {host: shop.secrets.login(name) for host, name in table.credentials.items()}
    identity = shop.secrets.identity(table.credentials.values())
    return _Job(table, open_installer(Setting(table, logins, shop.cache_dir, shop.report, identity)), shop, identity)


def _resolve(job: _Job) -> Resolution:
    interpreter = find_interpreter(job.table.version)
    with _scratch(job.shop.cache_dir) as scratch:
        inputs = _inputs(job, scratch)
        if inputs.is_locked and inputs.form is not Form.UV_LOCK:
            text = inputs.contents[0].decode()
            return Resolution(Lock(text, inputs.form), interpreter, FOR_EVER_S)
        return _resolve_once(job, inputs, interpreter, scratch)


@contextmanager
def _scratch(cache_dir: str) -> Iterator[str]:
    """Give a directory that nobody else reads."""
    os.makedirs(cache_dir, exist_ok=True)
    path = tempfile.mkdtemp(prefix=SCRATCH, dir=cache_dir)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _inputs(job: _Job, scratch: str) -> Inputs:
    requirements = job.table.requirements
    if not isinstance(requirements, str):
        return _written(scratch, "requirements.in", "".join(f"{line}\n" for line in requirements))
    if job.table.is_url:
        return _fetched(job, requirements, scratch)
    if requirements.endswith(".whl"):
        path = _found(requirements, job.shop.base_dirs)
        with open(path, "rb") as file:
            return _wheel(job, path, sha256(file.read()).hexdigest(), scratch)
    path = _found(requirements, job.shop.base_dirs)
    return Inputs(path, form_of(path), tuple(ready.local_inputs(path)))


def _found(name: str, base_dirs: tuple[str, ...]) -> str:
    path = ready.find_file(name, base_dirs)
    if path is None:
        raise BuildError(f"`{name}` is not there: requirements are looked for beside the spec and in the spool")
    return path


def _written(scratch: str, name: str, text: str) -> Inputs:
    path = os.path.join(scratch, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return Inputs(path, form_of(path), (text.encode(),))


def _fetched(job: _Job, url: str, scratch: str) -> Inputs:
    """Fetch a requirements file, a lock, or a wheel, with the credentials of its host."""
    name = job.table.credentials.get(urlsplit(url).netloc)
    headers = {}
    if name:
        user, password = job.shop.secrets.login(name)
        headers["Authorization"] = job.shop.secrets.basic(user, password)
    blob = job.shop.fetcher.fetch(Request(url, job.table.sha256, headers)).blob
    base = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
    if base.endswith(".whl"):
        return _wheel(job, blob.path, blob.sha256, scratch, base)
    if form_of(base) is Form.UV_LOCK:
        raise BuildError(f"`{url}`: a `uv.lock` needs its `pyproject.toml` beside it; export it as `pylock.toml`")
    with open(blob.path, encoding="utf-8", errors="replace") as file:
        return _written(scratch, base or "requirements.txt", file.read())


def _wheel(job: _Job, source: str, digest: str, scratch: str, name: str = "") -> Inputs:
    """Put a wheel where it stays: the lock names its path, and the key is made of the lock."""
    directory = os.path.join(job.shop.cache_dir, "wheels", digest)
    path = os.path.join(directory, name or os.path.basename(source))
    if not os.path.exists(path):
        os.makedirs(directory, exist_ok=True)
        temporary = os.path.join(scratch, "wheel")
        shutil.copyfile(source, temporary)
        os.rename(temporary, path)
    return _written(scratch, "requirements.in", f"{path}\n")


def _resolve_once(job: _Job, inputs: Inputs, interpreter: Interpreter, scratch: str) -> Resolution:
    """Resolve, or reuse what was resolved within `refresh`; several builders at once resolve once."""
    key = _resolution_key(job, inputs, interpreter)
    directory = os.path.join(job.shop.cache_dir, "resolutions")
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, f"{key}.json")
    os.makedirs(os.path.join(job.shop.cache_dir, "locks"), exist_ok=True)
    lock_path = os.path.join(job.shop.cache_dir, "locks", f"resolve-{key}.lock")
    with FileLock(lock_path, fallback_to_soft=False):
        known = _known(path, job, interpreter)
        if known:
            return known
        job.shop.report.line(f"resolving with {job.installer.name} for Python {'.'.join(map(str, interpreter.version))}")
        lock = job.installer.resolve(inputs, interpreter, scratch)
        refuse_directories(lock.text if lock.form is Form.REQUIREMENTS else "")
        now_s = job.shop.clock()
        told = {"schema": 1, "resolved_at_s": now_s, "form": lock.form.value, "text": lock.text}
        durable.write(path, json.dumps(told).encode(), sync=False)
        return Resolution(lock, interpreter, _fresh_until(job, inputs, now_s))


def _known(path: str, job: _Job, interpreter: Interpreter) -> Resolution | None:
    try:
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
        lock = Lock(str(told["text"]), Form(told["form"]))
        fresh_until_s = float(told["resolved_at_s"]) + job.table.refresh_s
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Resolution(lock, interpreter, fresh_until_s) if job.shop.clock() < fresh_until_s else None


def _fresh_until(job: _Job, inputs: Inputs, now_s: float) -> float:
    return FOR_EVER_S if inputs.is_locked else now_s + job.table.refresh_s


def _resolution_key(job: _Job, inputs: Inputs, interpreter: Interpreter) -> str:
    table = job.table
    options = [job.installer.name, table.index_url, table.extra_index_urls, table.only_binary, table.exclude_newer]
    digest = sha256(json.dumps([inputs.form.value, interpreter.key(), options, job.identity]).encode())
    for content in inputs.contents:
        digest.update(sha256(content).digest())
    return digest.hexdigest()


def _recipe(job: _Job, resolution: Resolution) -> Recipe:
    interpreter, lock = resolution.interpreter, resolution.lock
    key = lock.key(interpreter.key(), [job.installer.name, job.table.only_binary])
    note: dict[str, object] = {"packages": lock.packages, "interpreter": interpreter.path, "installer": job.installer.name}
    return Recipe(key, note, lambda place: _make(job, resolution, key, place))


def _make(job: _Job, resolution: Resolution, key: str, place: Place) -> None:
    """Install, then believe nothing: does it start, does it fit together, is each file what its package says?"""
    try:
        job.installer.install(resolution.lock, resolution.interpreter, place)
        run_tool(Tool([place.python, "-I", "-c", ""], {}, keep_fds=place.keep_fds), job.shop.report)
        job.installer.check(place)
        manifest.check_records(place.path)
        job.installer.settle(place)
    except BuildError as error:
        raise BuildError(f"environment {key}: {error}") from error


def _point(told: Mapping[str, object], shop: Workshop, resolution: Resolution, key: str) -> None:
    """Let the next job that asks for this find it without a builder."""
    interpreter = resolution.interpreter
    pointer = {
        "schema": ready.SCHEMA,
        "environment": key,
        "fresh_until_s": resolution.fresh_until_s,
        "interpreter": interpreter.path,
        "interpreter_state": [interpreter.size_bytes, interpreter.modified_ns],
    }
    directory = os.path.join(shop.cache_dir, ready.POINTERS)
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, ready.request_key(told, shop.base_dirs))
    durable.write(path, json.dumps(pointer).encode(), sync=False)
