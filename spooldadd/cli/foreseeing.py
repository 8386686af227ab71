"""What a node with the configuration at hand would make of a valid spec: what it lacks for it, refuses, or adds.

Other nodes may say something else, so all of it is a warning. Where there is no usable configuration nothing is said.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from spooldadd import admission, confining, planning, signature, signing
from spooldadd.cli.common import spool_path
from spooldadd.cli.configured import load_config
from spooldadd.config import Config
from spooldadd.confining import LEVELS
from spooldadd.errors import ConfigError, SpoolError
from spooldadd.mail.wishes import lacks_transport
from spooldadd.preparing import Prepared
from spooldadd.spec import InvalidSpec, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


class Foresight:
    """Asks one configuration about each spec."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._root = _spool(options)
        try:
            self._config: Config | None = load_config(options, self._root)
        except ConfigError:
            self._config = None  # `spooldadd config` says what is wrong with it

    def warnings(self, prepared: Prepared, now: datetime.datetime) -> Iterator[str]:
        """Say what would happen on this node, and what the remedy is."""
        config = self._config
        if config is None:
            return
        objection = lacks_transport(config, prepared.spec)
        if objection:
            yield f"{objection}; another node may have one"
        yield from _of_signature(prepared, config, now)
        yield from _of_sandbox(prepared.spec, config, self._root or "")


def _spool(options: argparse.Namespace) -> str | None:
    try:
        return spool_path(options)
    except SpoolError:
        return None


def _of_signature(prepared: Prepared, config: Config, now: datetime.datetime) -> Iterator[str]:
    demand = config.trust.demand(prepared.spec.queue)
    if demand == "no":
        return
    try:
        found = signature.find(prepared.data)
        if found is None and demand == "required":
            yield f"it {admission.UNSIGNED}; `spooldadd sign` it, or `spooldadd submit --sign`"
        elif found is not None:
            signing.signer_of(found, signing.Signers(config.trust.allowed_signers or "", config.trust.revoked_signers or ""))
            objection = admission.objection_to(found, now, config.node)
            if objection:
                yield f"it {objection}"
    except signature.BadSignature as error:
        yield f"it {error}"
    except signing.CannotSign as error:
        yield f"its signature cannot be checked: {error}"


def _of_sandbox(spec: Spec, config: Config, root: str) -> Iterator[str]:
    """Say what the floor of this node refuses; where it refuses nothing, what it adds."""
    try:
        rules = confining.rules_of(spec, config, root, hidden=planning.hidden_in_sandbox(config))
    except InvalidSpec as error:
        for problem in error.problems:
            hint = f"; {problem.hint}" if problem.hint else ""
            yield f"line {problem.line}: node `{config.node}` would refuse it: {problem.message}{hint}"
        return
    if rules is None:
        return
    own = confining.levels_of(spec.sandbox)
    added = [key for key in LEVELS if LEVELS[key].index(getattr(rules, key)) > own[key]]
    if added:
        told = ", ".join(f"`{key} = {confining.written(getattr(rules, key))}`" for key in added)
        yield f"node `{config.node}` adds to its sandbox: {told}; write them into `[sandbox]` to have them everywhere"
