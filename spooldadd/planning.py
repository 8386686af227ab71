"""Make a plan: from a claimed job's spec and the node's configuration to plain values that a supervisor runs."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import NamedTuple

from spooldadd import layout, lifecycle, names, record, secret
from spooldadd.account import Account
from spooldadd.bundle import Brought
from spooldadd.config import Config
from spooldadd.confining import home_dir, rules_of
from spooldadd.environment import ready
from spooldadd.plan import Limits, Plan
from spooldadd.spec import Spec
from spooldadd.spec.models import Sandbox
from spooldadd.spool import Claim
from spooldadd.template import Context, JobFacts, render

NO_SANDBOX = Sandbox()
# The work directory of another user's job, in a place of his own; what belongs to users in directories of the worker's.
WORK, USERS = "work", "users"
# What concerns the worker itself, or what its service manager told it and nobody else.
DROPPED = (
    "SPOOLDADD_*", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
    "INVOCATION_ID", "JOURNAL_STREAM", "MAINPID", "MANAGERPID", "SYSTEMD_EXEC_PID", "CREDENTIALS_DIRECTORY",
    "STATE_DIRECTORY", "CACHE_DIRECTORY", "RUNTIME_DIRECTORY", "LOGS_DIRECTORY", "CONFIGURATION_DIRECTORY",
    "PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__", "OLDPWD",
)  # fmt: skip


class Came(NamedTuple):
    """How a spec came: the bundle that it was in, and the user as whom it runs, where there is one."""

    brought: Brought | None = None
    account: Account | None = None


def base_environ(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that every job of this worker starts from."""
    rules = config.environ
    kept = {
        name: value
        for name, value in environ.items()
        if _matches(name, rules.passed) and not _matches(name, rules.dropped) and not _matches(name, DROPPED)
    }
    return {**kept, **rules.added}


def make_plan(
    spec: Spec,
    claimed: Claim,
    root: str,
    work_root: str,
    config: Config,
    came: Came | None = None,
) -> Plan:
    """Return the plan of this attempt; `came` says how the spec came.

    Raises: InvalidSpec where a template cannot be rendered.
    """
    brought, account = came or Came()
    node = config.node
    plan = Plan()
    plan.name = spec.name or names.job_name(claimed.job)
    plan.queue = spec.queue
    facts = JobFacts(claimed.job, plan.name, claimed.attempt, plan.queue, record.moment(claimed.submitted_at_s))
    context = Context(facts, node)
    rendered = render(spec, context)
    plan.root = root
    plan.record = claimed.record
    plan.job = claimed.job
    plan.node = node
    plan.attempt = claimed.attempt
    plan.submitted_at_s = claimed.submitted_at_s
    plan.claimed_at_s = claimed.claimed_at_s
    plan.command = ["/bin/sh", "-c", rendered.command] if isinstance(rendered.command, str) else list(rendered.command)
    plan.environ = {**rendered.env, **gpu_environ(claimed.taken)}
    plan.stdin = rendered.stdin.encode()
    plan.config = json.dumps(dict(rendered.config), ensure_ascii=False, indent=2).encode() if rendered.config else None
    plan.script = (spec.script.name, spec.script.data) if spec.script else None
    plan.work_dir = plan.work_top = os.path.join(work_root, claimed.record)
    if account is not None:
        plan.account, plan.work_dir = account, os.path.join(plan.work_top, WORK)
        config = for_account(config, account)
    _plan_build(plan, rendered, context, config, brought if _needs_files_beside(rendered) else None)
    plan.split_output = rendered.run.split_output
    _plan_safety(plan, rendered, config)
    plan.limits = _limits(rendered, config)
    plan.policy = policy(rendered)
    plan.keep_files = list(rendered.keep.files)
    plan.keep_workdir = rendered.keep.workdir
    return plan


def for_account(config: Config, account: Account) -> Config:
    """Return the configuration as it is for jobs of another user: a cache of his own, and secrets of his own alone.

    What a server tells all nodes about downloads is left out: who could write there would decide what others run.
    """
    secrets = config.secrets
    command = secrets.command if secrets.command and any("{user}" in word for word in secrets.command) else None
    words = tuple(word.replace("{user}", account.name) for word in command) if command else None
    order = tuple(source for source in secrets.order if source != secret.CREDENTIALS)
    own = None if config.secrets_dir is None else os.path.join(config.secrets_dir, USERS, account.name)
    return config.model_copy(
        update={
            "cache_dir": os.path.join(config.cache_dir, USERS, str(account.uid)),
            "secrets_dir": own,
            "secrets": secrets.model_copy(update={"command": words, "order": order}),
            "redis_url": None,
        }
    )


def gpu_environ(taken: Mapping[str, object]) -> dict[str, str]:
    """Return what tells a job which GPUs are its own, as its claim says; nothing where it asked for none."""
    gpus = taken.get("gpus")
    if not isinstance(gpus, list):
        return {}
    given = ",".join(map(str, gpus))
    return {"CUDA_VISIBLE_DEVICES": given, "SPOOLDADD_GPUS": given}


def _plan_safety(plan: Plan, spec: Spec, config: Config) -> None:
    """Say which secrets the job gets, and what it is kept from. Raises: InvalidSpec."""
    sources = config.secrets.sources(config.secrets_dir, os.environ)
    if spec.secrets:
        plan.secrets = [(key, use.name, use.environ) for key, use in spec.secrets.items()]
        plan.secret_sources = sources.table()
    if spec.sandbox == NO_SANDBOX == config.sandbox:
        return
    needed = (config.cache_dir,) if plan.build else ()
    # What is root's another user cannot see anyway, and who cannot see it cannot hide it.
    hidden, home = (hidden_in_sandbox(config), home_dir()) if plan.account is None else ((), plan.account.home)
    rules = rules_of(spec, config, plan.root, hidden=hidden, shown=needed, home=home)
    if rules is None:
        return
    plan.sandbox = rules.table()
    if plan.build is not None:  # its steps are commands of the spec as well
        plan.build = json.dumps({**json.loads(plan.build), "sandbox": plan.sandbox}).encode()


def hidden_in_sandbox(config: Config) -> tuple[str, ...]:
    """Return the node's own files and directories, which no job in a sandbox sees; empty for what there is not."""
    sources = config.secrets.sources(config.secrets_dir, os.environ)
    outbox = config.mail.outbox or os.path.join(os.path.dirname(config.work_dir), "mail")
    return sources.directory, sources.credentials, outbox, config.file or ""


def _plan_build(plan: Plan, spec: Spec, context: Context, config: Config, brought: Brought | None) -> None:
    """Say what the builder has to do, and whether it need not be started because all of it is ready."""
    if not (spec.python or spec.files or spec.build):
        return
    told = spec.model_dump(include={"python", "files", "build"}, by_alias=True, exclude_unset=True, mode="json")
    base_dirs = (os.path.join(plan.root, layout.RUNNING, plan.record), plan.root)
    plan.cache_dir = config.cache_dir
    plan.build = json.dumps({
        "schema": 1,
        "work_dir": plan.work_dir,
        "cache_dir": config.cache_dir,
        "secrets": config.secrets.sources(config.secrets_dir, os.environ).table(),
        "base_dirs": base_dirs,
        "bundle": brought.path if brought else "",
        "bundle_state": brought.state if brought else (),
        "redis_url": config.redis_url or "",
        "variables": {"vars": dict(spec.vars), "job": asdict(context.job), "node": {"name": context.node}},
        **told,
    }, default=str).encode()  # fmt: skip
    # Only the builder can see what a bundle's files are, and only a process of his what is in another user's cache.
    if spec.python and plan.account is None and not (spec.files or spec.build or brought):
        found = ready.find_ready(config.cache_dir, told["python"], base_dirs)
        if found is not None:
            os.close(found.hold_fd)  # the supervisor takes a hold of its own, or builds
            plan.environment = found.key
            plan.environment_environ = {"VIRTUAL_ENV": found.path, "PYTHONPYCACHEPREFIX": found.pycache}


def _needs_files_beside(spec: Spec) -> bool:
    """Tell whether something in the spec is looked for among the files that came with it."""
    requirements = spec.python.requirements if spec.python else ()
    is_local = isinstance(requirements, str) and "://" not in requirements
    return is_local or any(entry.source is not None for entry in spec.files)


def policy(spec: Spec) -> lifecycle.Policy:
    """Return what a spec says about further attempts."""
    return lifecycle.Policy(
        attempts=spec.retry.attempts,
        backoff_s=spec.retry.backoff_s,
        backoff_max_s=spec.retry.backoff_max_s,
        on=tuple(spec.retry.on),
        restartable=spec.restartable,
    )


def _limits(spec: Spec, config: Config) -> Limits:
    """The spec's own limits; where it sets none, the node's."""
    limits = Limits()
    given = config.limits.fill(spec.limits)
    for name in Limits.__slots__:
        setattr(limits, name, getattr(given, name))
    return limits


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
