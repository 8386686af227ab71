"""uv, and venv with pip where uv is missing: the two ways to resolve and install. Neither knows about the store.

Credentials reach them in their environment, never in an argument, where `ps` would show them. Where the spec names an
index, the node's own index settings are left out altogether: nobody should get a package from where they did not ask.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from spooldadd.environment.interpreters import Interpreter
from spooldadd.environment.locks import Form, Inputs, Lock
from spooldadd.environment.models import PythonTable
from spooldadd.environment.report import Report
from spooldadd.environment.tool import Tool, run_tool
from spooldadd.errors import BuildError

# What a venv around the builder, or a person's shell, would otherwise tell the installers.
_FOREIGN: Final = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_PROJECT")
_UV_INDEX: Final = (
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
    "UV_CONFIG_FILE",
    "UV_INDEX_STRATEGY",
)
# What says how a node reaches the network, and not where it gets packages.
_PIP_NETWORK: Final = ("PIP_CERT", "PIP_CLIENT_CERT", "PIP_PROXY", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES", "PIP_TRUSTED_HOST")
# What was fetched with a login.
PRIVATE: Final = "private"
_NEEDS_UV: Final = "`pylock.toml`, `uv.lock` and `exclude_newer` need uv, but this is built with pip"


@dataclass(frozen=True)
class Setting:
    """Where packages come from, and what may be taken."""

    table: PythonTable
    logins: Mapping[str, tuple[str, str]] = field(repr=False)
    cache_dir: str
    report: Report
    identity: str = ""  # of those logins

    def tool_cache(self, name: str) -> str:
        """Return where an installer keeps what it fetched: apart for each login, since it does not ask who is asking."""
        private = os.path.join(self.cache_dir, PRIVATE, f"{name}-{self.identity}")
        return private if self.identity else os.path.join(self.cache_dir, name)

    def index_urls(self) -> tuple[str | None, list[str]]:
        """Return the index and the further ones, logins filled in."""
        main = self.table.index_url
        return (self._with_login(main) if main else None), [self._with_login(url) for url in self.table.extra_index_urls]

    def _with_login(self, url: str) -> str:
        parts = urlsplit(url)
        login = self.logins.get(parts.netloc)
        if login is None:
            return url
        user, password = (quote(part, safe="") for part in login)
        self.report.keep_secret(password)
        return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.netloc}"))


@dataclass(frozen=True)
class Place:
    """Where an environment is being made, and where it will be. `keep_fds` are held by whoever writes there."""

    path: str
    final: str
    keep_fds: tuple[int, ...]

    @property
    def python(self) -> str:
        """The path of its interpreter."""
        return os.path.join(self.path, "bin", "python")


class Installer(Protocol):
    """A way to resolve and install. All methods raise `BuildError` with the program's own last lines."""

    name: str

    def resolve(self, inputs: Inputs, interpreter: Interpreter, scratch: str) -> Lock:
        """Decide on versions."""

    def install(self, lock: Lock, interpreter: Interpreter, place: Place) -> None:
        """Make an environment with exactly this."""

    def check(self, place: Place) -> None:
        """Check that what is installed fits together."""

    def settle(self, place: Place) -> None:
        """Make it fit for its final place, after it was checked file by file."""


def open_installer(setting: Setting) -> Installer:
    """Return the one that the spec asks for. Raises: `BuildError` where it is not there."""
    wanted = setting.table.installer
    uv = find_uv() if wanted != "pip" else None
    if uv:
        return UvInstaller(uv, setting)
    if wanted == "uv":
        raise BuildError("`uv` is not installed on this node")
    return PipInstaller(setting)


def find_uv() -> str | None:
    """Return the path of uv: from its package, else from PATH."""
    try:
        return str(importlib.import_module("uv").find_uv_bin())
    except (ImportError, OSError):
        return shutil.which("uv")


class UvInstaller:
    """uv, with a cache that only we use and nothing hard-linked out of it."""

    name = "uv"

    def __init__(self, program: str, setting: Setting) -> None:
        self._program = program
        self._setting = setting

    def resolve(self, inputs: Inputs, interpreter: Interpreter, scratch: str) -> Lock:
        """Run `uv pip compile`; a `uv.lock` is only exported, without the project itself."""
        here = os.path.dirname(inputs.path)
        if inputs.form is Form.UV_LOCK:
            options = ["--frozen", "--no-emit-project", "--no-emit-local", "--no-default-groups", "--no-header"]
            command = ["export", *options, "--format", "pylock.toml", "--project", here, "--python", interpreter.path]
            return Lock(self._text(command, here, {"UV_NO_CONFIG": "0"}), Form.PYLOCK)
        options = ["--generate-hashes", "--no-header", "--no-annotate", "--no-strip-extras", *self._choices()]
        command = ["pip", "compile", *options, "--python", interpreter.path, inputs.path]
        return Lock(self._text(command, here, {}), Form.REQUIREMENTS)

    def install(self, lock: Lock, interpreter: Interpreter, place: Place) -> None:
        """Run `uv venv` and `uv pip sync`."""
        self._run(["venv", "--quiet", "--relocatable", "--no-project", "--python", interpreter.path, place.path], place)
        if not lock.packages:
            return
        name = "pylock.toml" if lock.form is Form.PYLOCK else "requirements.txt"
        path = os.path.join(place.path, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(lock.text)
        options = ["--link-mode", "copy", "--python", place.python]
        if self._setting.table.only_binary:
            options += ["--only-binary", ":all:"]
        self._run(["pip", "sync", *options, path], place)

    def check(self, place: Place) -> None:
        """Run `uv pip check`."""
        self._run(["pip", "check", "--quiet", "--python", place.python], place)

    def settle(self, place: Place) -> None:
        """Nothing: it is relocatable. The lock that uv left is for nobody."""
        try:
            os.unlink(os.path.join(place.path, ".lock"))
        except FileNotFoundError:
            pass

    def _choices(self) -> list[str]:
        table = self._setting.table
        choices = ["--only-binary", ":all:"] if table.only_binary else []
        return [*choices, "--exclude-newer", table.exclude_newer] if table.exclude_newer else choices

    def _text(self, command: Sequence[str], directory: str, more: Mapping[str, str]) -> str:
        tool = Tool([self._program, *command], {**self._environ(), **more}, directory)
        return "\n".join(run_tool(tool, self._setting.report)) + "\n"

    def _run(self, command: Sequence[str], place: Place) -> None:
        tool = Tool([self._program, *command], self._environ(), place.path, keep_fds=place.keep_fds, is_talk=True)
        run_tool(tool, self._setting.report)

    def _environ(self) -> dict[str, str]:
        main, further = self._setting.index_urls()
        dropped = (*_FOREIGN, *(_UV_INDEX if main else ()))
        environ = {name: value for name, value in os.environ.items() if name not in dropped}
        environ.setdefault("UV_PYTHON_DOWNLOADS", "never")
        environ |= {"PYTHONDONTWRITEBYTECODE": "1"}
        environ |= {"UV_CACHE_DIR": self._setting.tool_cache("uv"), "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
        if main:
            environ |= {"UV_DEFAULT_INDEX": main, "UV_NO_CONFIG": "1"}
        if further:
            environ["UV_INDEX"] = " ".join(further)
        return environ


class PipInstaller:
    """venv and pip. Slower, without `pylock.toml`, `uv.lock` and `exclude_newer`; the result is as good."""

    name = "pip"

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._pip = find_pip()

    def resolve(self, inputs: Inputs, interpreter: Interpreter, scratch: str) -> Lock:
        """Let pip report what it would install into an empty environment."""
        if inputs.form is not Form.REQUIREMENTS or self._setting.table.exclude_newer:
            raise BuildError(_NEEDS_UV)
        venv = os.path.join(scratch, "venv")
        self._venv(interpreter, venv, "/", ())
        report = os.path.join(scratch, "report.json")
        command = ["install", "--dry-run", "--ignore-installed", "--report", report, "-r", inputs.path]
        self._run(os.path.join(venv, "bin", "python"), [*command, *self._choices()], os.path.dirname(inputs.path), ())
        with open(report, encoding="utf-8") as file:
            return Lock(_lock_of_report(file.read()), Form.REQUIREMENTS)

    def install(self, lock: Lock, interpreter: Interpreter, place: Place) -> None:
        """Make a venv and install without deciding anything."""
        if lock.form is not Form.REQUIREMENTS:
            raise BuildError(_NEEDS_UV)
        self._venv(interpreter, place.path, place.path, place.keep_fds)
        if not lock.packages:
            return
        path = os.path.join(place.path, "requirements.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(lock.text)
        command = ["install", "--quiet", "--no-deps", "--no-compile", "-r", path, *self._choices()]
        self._run(place.python, command, place.path, place.keep_fds)

    def check(self, place: Place) -> None:
        """Run `pip check`."""
        self._run(place.python, ["check"], place.path, place.keep_fds)

    def settle(self, place: Place) -> None:
        """Write the final place into the scripts: a venv is not relocatable."""
        directory = os.path.join(place.path, "bin")
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                _replace_in(path, place.path.encode(), place.final.encode())

    def _venv(self, interpreter: Interpreter, target: str, directory: str, keep_fds: tuple[int, ...]) -> None:
        command = [interpreter.path, "-I", "-m", "venv", "--without-pip", target]
        run_tool(Tool(command, self._environ(), directory, keep_fds=keep_fds), self._setting.report)

    def _run(self, python: str, command: Sequence[str], directory: str, keep_fds: tuple[int, ...]) -> None:
        words = [self._pip, "-I", "-m", "pip", "--python", python, "--no-input"]
        tool = Tool([*words, *command], self._environ(), directory, keep_fds=keep_fds, is_talk=True)
        run_tool(tool, self._setting.report)

    def _choices(self) -> list[str]:
        return ["--only-binary", ":all:"] if self._setting.table.only_binary else []

    def _environ(self) -> dict[str, str]:
        main, further = self._setting.index_urls()
        environ = {
            name: value
            for name, value in os.environ.items()
            if name not in _FOREIGN and not (main and name.startswith("PIP_") and name not in _PIP_NETWORK)
        }
        environ |= {"PIP_CACHE_DIR": self._setting.tool_cache("pip"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        if main:
            environ |= {"PIP_INDEX_URL": main, "PIP_CONFIG_FILE": os.devnull}
        if further:
            environ["PIP_EXTRA_INDEX_URL"] = " ".join(further)
        return environ


def find_pip() -> str:
    """Return an interpreter that has a pip new enough to install into others (22.3). Raises: `BuildError`."""
    probe = "import pip, sys; sys.exit(tuple(map(int, pip.__version__.split('.')[:2])) < (22, 3))"
    candidates = [sys.executable, getattr(sys, "_base_executable", ""), shutil.which("python3") or "", "/usr/bin/python3"]
    for python in dict.fromkeys(filter(None, candidates)):
        try:
            done = subprocess.run([python, "-I", "-c", probe], capture_output=True, check=False, cwd="/")
        except OSError:
            continue
        if done.returncode == 0:
            return str(python)
    raise BuildError("neither uv nor a pip of 22.3 or later is installed on this node")


def _lock_of_report(text: str) -> str:
    """Write the requirements that a report of pip names. Source: pip's "Installation Report", version 1."""
    lines = []
    for package in json.loads(text)["install"]:
        told = package["download_info"]
        name = f"{package['metadata']['name']}=={package['metadata']['version']}"
        hashes = told.get("archive_info", {}).get("hashes", {})
        pin = f"{package['metadata']['name']} @ {told['url']}" if package["is_direct"] else name
        lines.append(" ".join([pin, *(f"--hash={kind}:{value}" for kind, value in sorted(hashes.items()))]))
    return "\n".join(sorted(lines)) + "\n"


def _replace_in(path: str, old: bytes, new: bytes) -> None:
    with open(path, "rb") as file:
        content = file.read()
    if old in content:
        with open(path, "wb") as file:
            file.write(content.replace(old, new))
