"""May this spec run, by its signature? Once for each spool, from when until when its signer said, on the nodes he named.

The bytes that are checked are those that run: who calls has read them once. What was admitted is noted in `.spool/signed/`
under the signature's nonce, with the job's id, until the signature expires: the same signature in another file is a
replay, a later attempt of the same job is none. The signature itself is checked at each attempt, so a key that was taken
off the list starts nothing more.

If we die here: a nonce that is noted for a job that has not started. The job goes to `waiting/` under its own id, which the
note names; nothing is lost and nothing runs twice.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from dataclasses import dataclass
from typing import Final

from spooldadd import durable, layout, names, record
from spooldadd.config import Config
from spooldadd.errors import ConfigError
from spooldadd.layout import Layout
from spooldadd.plan import Plan
from spooldadd.signature import BadSignature, Signed, find
from spooldadd.signing import CannotSign, Signers, signer_of
from spooldadd.tomltext import flat

# How far the signer's clock may be ahead of ours. The expiry is exact: the signer chooses how much time he gives.
CLOCK_SKEW: Final = datetime.timedelta(minutes=5)
DIRECTORY: Final = "signed"
_DAY_S: Final = 86400.0
UNSIGNED: Final = "is not signed, and this node runs signed specs only"


class NotAdmitted(Exception):
    """This spec may not run. The message follows the file's name and ends with the remedy."""


@dataclass(frozen=True)
class Admitted:
    """Who signed, and what else the signature covers: the digest of what a bundle brings, and of the spec in it."""

    signed_by: str
    nonce: str
    files: str
    spec: str


class Admission:
    """The rule of one node for one spool."""

    def __init__(self, places: Layout, config: Config, *, sync: bool) -> None:
        """Raises: ConfigError where signatures are asked for and cannot be checked here."""
        self._directory = os.path.join(places.internal, DIRECTORY)
        self._config = config
        self._sync = sync
        rule = config.trust
        self._signers = Signers(rule.allowed_signers or "", rule.revoked_signers or "")
        if rule.has_demand():
            try:
                self._signers.check()
            except CannotSign as error:
                raise ConfigError(f"`[trust] signed`: {error}") from error

    def admit(self, data: bytes, queue: str, claimed: tuple[str, str, int]) -> Admitted | None:
        """Return who signed these bytes; None where nobody has to, or did.

        `claimed` is the job's id, the path of its record and the attempt. Raises: NotAdmitted; OSError where the spool
        cannot be written.
        """
        demand = self._config.trust.demand(queue)
        if demand == "no":
            return None
        try:
            signed = find(data)
            if signed is None:
                if demand == "required":
                    raise NotAdmitted(f"{UNSIGNED}; `spooldadd sign` it, or `spooldadd submit --sign`")
                return None
            signer = signer_of(signed, self._signers)
        except (BadSignature, CannotSign) as error:
            raise NotAdmitted(str(error) if isinstance(error, BadSignature) else f"cannot be checked: {error}") from error
        self._admit_once(signed, signer, claimed)
        statement = signed.statement
        self._note_signer(claimed, signer, statement.nonce)
        return Admitted(signer, statement.nonce, statement.files, hashlib.sha256(data).hexdigest())

    def _admit_once(self, signed: Signed, signer: str, claimed: tuple[str, str, int]) -> None:
        job, path, attempt = claimed
        statement = signed.statement
        noted = self._noted(statement.nonce)
        if noted == job or (not noted and attempt > 1 and _was_admitted(path, statement.nonce)):
            return
        if noted:
            raise NotAdmitted(_replayed(noted))
        objection = objection_to(signed, datetime.datetime.now(datetime.UTC), self._config.node)
        if objection:
            raise NotAdmitted(objection)
        self._note(signed, signer, job)

    def _note_signer(self, claimed: tuple[str, str, int], signer: str, nonce: str) -> None:
        """Write into the claim who signed."""
        _, path, attempt = claimed
        table = {key: value for key, value in (record.read_claim(path, attempt) or {}).items() if key != "schema"}
        record.write_claim(path, {**table, "signed_by": signer, "signature": nonce}, sync=self._sync)

    def prune(self, now_s: float) -> None:
        """Forget what has expired: it would be refused for that. A day later, lest two clocks disagree. Raises: OSError."""
        try:
            entries = list(os.scandir(self._directory))
        except FileNotFoundError:
            return
        for entry in entries:
            expires_s = record.seconds((record.read_table(entry.path) or {}).get("expires_at"))
            is_left = expires_s is None and durable.is_temporary(entry.name)  # by somebody who died while he wrote it
            last_s = entry.stat(follow_symlinks=False).st_mtime if is_left else expires_s
            if last_s is not None and last_s + _DAY_S < now_s:
                durable.unlink_if_there(entry.path)

    def _noted(self, nonce: str) -> str:
        """Return the job that this signature was used for; empty for none."""
        path = os.path.join(self._directory, nonce)
        table = record.read_table(path)
        if table is None:
            return "another job" if os.path.lexists(path) else ""
        return str(table.get("job", "another job"))

    def _note(self, signed: Signed, signer: str, job: str) -> None:
        """Note it whole and by one rename that takes no name which is there: of two nodes one gets it."""
        statement = signed.statement
        target = os.path.join(self._directory, statement.nonce)
        temporary = os.path.join(self._directory, f"{durable.TEMPORARY}{statement.nonce}.{names.random_part()}")
        told = {"job": job, "signed_by": signer, "expires_at": statement.expires_at, "node": self._config.node}
        os.makedirs(self._directory, exist_ok=True)
        durable.write_new(temporary, flat(told).encode(), sync=self._sync)
        try:
            durable.rename_new(temporary, target)
        except FileExistsError as error:
            os.unlink(temporary)
            if self._noted(statement.nonce) != job:
                raise NotAdmitted(_replayed(self._noted(statement.nonce))) from error
        if self._sync:
            durable.sync_directory(self._directory)


def objection_to(signed: Signed, now: datetime.datetime, node: str | None) -> str | None:
    """Return why this signature does not hold now and here, as a predicate, or None."""
    statement = signed.statement
    if now > statement.expires_at:
        return f"has a signature that expired at {_shown(statement.expires_at)}; sign it again, `--expires` says how long"
    if statement.signed_at > now + CLOCK_SKEW:
        at = _shown(statement.signed_at)
        return f"was signed at {at}, which is still to come (it is {_shown(now)} here); are the clocks right?"
    if node is not None and statement.nodes and node not in statement.nodes:
        return f"was signed for {', '.join(statement.nodes)}, and this is `{node}`; sign it again with `--node {node}`"
    return None


def bind(plan: Plan, admitted: Admitted) -> None:
    """Let nothing into the job that the signature does not cover: local files only as they were signed, in the bundle."""
    plan.signed_by = admitted.signed_by
    if plan.build is None:
        return
    told = json.loads(plan.build)
    told["base_dirs"] = []
    told["signed"] = {"files": admitted.files, "spec": admitted.spec}
    plan.build = json.dumps(told).encode()
    if isinstance((told.get("python") or {}).get("requirements"), str):
        plan.environment = ""  # the builder looks at the file that was signed


def _was_admitted(path: str, nonce: str) -> bool:
    """Tell whether an earlier attempt in this record was; only workers can write there."""
    earlier = os.path.join(path, layout.ATTEMPTS)
    try:
        attempts = os.listdir(earlier)
    except OSError:
        return False
    claims = (record.read_table(os.path.join(earlier, name, layout.CLAIM)) or {} for name in attempts)
    return any(claim.get("signature") == nonce for claim in claims)


def _replayed(job: str) -> str:
    return f"has a signature that was used already, by `{job}`: one signature starts one job; sign it again"


def _shown(at: datetime.datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
