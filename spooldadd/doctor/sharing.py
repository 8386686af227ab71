"""Checks of what several nodes make of one spool: whether it is of the right kind, and what their locks are worth."""

from __future__ import annotations

from collections.abc import Iterator

from spooldadd import filesystem, mark, proof
from spooldadd.doctor.model import Check, Subject, counted, listed, ok, warned
from spooldadd.inspect import workers


def check_kind(subject: Subject) -> Iterator[Check]:
    """Is a spool that several nodes serve, or could, marked as shared?"""
    if mark.read(subject.root).kind != mark.LOCAL:
        return
    kind = filesystem.kind(subject.root)
    serving = [node.name for node in workers.all_nodes(subject.places) if node.is_serving]
    remedy = 'where several machines serve it, set `kind = "shared"` in `.spool/format.toml` and restart their workers'
    if len(serving) > 1:
        yield warned("kind", f"this is a local spool, and {len(serving)} nodes serve it: {listed(serving)}", remedy)
    elif filesystem.is_network(kind):
        sentence = f"this is a local spool on a network file system ({kind}): a node that is lost keeps its jobs"
        yield warned("kind", sentence, remedy)


def check_verdicts(subject: Subject) -> Iterator[Check]:
    """What have nodes seen of each other's locks?"""
    if mark.read(subject.root).kind != mark.SHARED:
        return
    own = subject.config.node
    found = [node.name for node in workers.all_nodes(subject.places)]
    others = [name for name in found if name != own]
    # The worker here may go by another name than the configuration's: then what any two of them saw counts.
    observers = [own] if own in found else [own, *found]
    by_verdict: dict[str, list[str]] = {
        proof.PRIVATE: [],
        proof.SHARED: [],
        proof.UNKNOWN: [],
    }  # one who saw them apart is believed
    for other in others:
        verdicts = {proof.between(subject.places, observer, other) for observer in observers if observer != other}
        by_verdict[next(one for one in by_verdict if one in verdicts)].append(other)
    known = by_verdict[proof.SHARED]
    if known:
        yield ok("lock-proofs", f"locks were proven shared with {listed(known)}: jobs can be taken over")
    if by_verdict[proof.PRIVATE]:
        sentence = f"locks do not reach {listed(by_verdict[proof.PRIVATE])}: nothing of theirs is taken over"
        yield warned("lock-proofs", sentence, "`spooldadd recover --node NAME`, once you know that the node is dead")
    if by_verdict[proof.UNKNOWN]:
        unknown = by_verdict[proof.UNKNOWN]
        sentence = f"nobody has seen what locks are worth with {counted(len(unknown), 'node', 'nodes')}: {listed(unknown)}"
        yield ok("lock-proofs", f"{sentence}; workers find out, or `spooldadd doctor --peer {unknown[0]}`")
    if not others:
        yield ok("lock-proofs", "no other node has served this spool yet")


def check_measured(subject: Subject) -> Iterator[Check]:
    """What did examinations with `--peer` measure?"""
    for peer, values in proof.seen(subject.places, subject.config.node).items():
        who = "another mount" if peer == proof.MOUNTS else f"`{peer}`"
        times = [value for key in ("listed_s", "size_s") if isinstance(value := values.get(key), float) and value >= 0]
        if values.get("renames_exclude") is False:
            remedy = "let one node only serve this spool"
            yield warned("measured", f"with {who}, a rename was seen to have two winners", remedy)
        elif times:
            yield ok("measured", f"with {who}: one rename wins; what the other did is seen after {max(times):g} s at most")


CHECKS = {"kind": check_kind, "lock-proofs": check_verdicts, "measured": check_measured}
