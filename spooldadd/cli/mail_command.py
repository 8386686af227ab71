"""Look after the mail of this node.

`test` sends a mail through each transport now and says what came of it. `list` shows what waits, what was refused and what
was sent; `show` prints one letter. `flush` tells and sends all there is, without waiting for its time. `retry` gives refused
letters another three days.

Letters that were sent stay for a week, refused ones for 90 days.

examples:
  spooldadd mail test
  spooldadd mail test --to me@example.org --via ops
  spooldadd mail list
  spooldadd mail show 20261121T101500.250000Z-9f773dd86de3
  spooldadd mail flush
  spooldadd mail retry 20261121T101500.250000Z-9f773dd86de3
"""

from __future__ import annotations

import os
import sys
import time

from spooldadd import claim, spool
from spooldadd.asking import reader
from spooldadd.cli.common import UsageError, add_json, print_json, say, spool_path
from spooldadd.cli.configured import load_config
from spooldadd.cli.plain import Options
from spooldadd.config import Config
from spooldadd.errors import MailError, SpoolError
from spooldadd.log import Log, timestamp
from spooldadd.mail.configured import transport_from
from spooldadd.mail.events import Trial
from spooldadd.mail.hiding import redactor
from spooldadd.mail.letter import Fate, Letter
from spooldadd.mail.outbox import Entry, Outbox
from spooldadd.mail.places import outbox_of
from spooldadd.mail.posting import Post
from spooldadd.mail.wishes import Wish, wish_of
from spooldadd.spec.models import Notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("action", choices=("test", "list", "show", "flush", "retry"), help="what to do")
    parser.add_argument("letters", metavar="LETTER", nargs="*", help="with show and retry: a letter's id, from `list`")
    parser.add_argument("--to", metavar="ADDRESS", action="append", help="with test: who gets it (default: `[mail] to`)")
    parser.add_argument("--via", metavar="NAME", action="append", help="with test: only this transport")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Do what was asked for."""
    if bool(options.letters) != (options.action in ("show", "retry")):
        raise UsageError(f"`mail {options.action}` takes {'no letter' if options.letters else 'the id of a letter'}")
    config = load_config(Options(config=getattr(options, "config", None)), _spool(options))
    outbox = Outbox(outbox_of(config))
    if options.action == "test":
        return _test(config, outbox, options)
    if options.action == "flush":
        return _flush(config, outbox, options)
    if options.action == "list":
        return _list(outbox, as_json=options.json)
    for letter in options.letters:
        if options.action == "show":
            sys.stdout.write(outbox.text(letter).decode("utf-8", "replace").replace("\r\n", "\n"))
        else:
            outbox.retry(letter)
            print(letter)
    return 0


def _spool(options: argparse.Namespace) -> str | None:
    """The outbox is the node's, so no spool is needed; where one is named, its own configuration counts."""
    try:
        return spool_path(options)
    except SpoolError:
        return None


def _test(config: Config, outbox: Outbox, options: argparse.Namespace) -> int:
    """Send without the outbox: a trial that fails is of no use tomorrow."""
    usual = wish_of(config, Notify(email=tuple(options.to) if options.to else None), "default")
    via = tuple(options.via or config.transport)
    unknown = [name for name in via if name not in config.transport]
    if unknown or not via:
        raise MailError(f"`{unknown[0]}` is no transport of this node" if unknown else "this node has no `[transport.NAME]`")
    post = Post(config, outbox, Log(2, level="warning"), time.time)
    rows = []
    for name in via:
        status, said = _try(config, post, (name, Wish(usual.email, usual.on, (name,))))
        rows.append({"transport": name, "kind": config.transport[name]["kind"], "status": status, "answer": said})
    if options.json:
        print_json({"transports": rows})
    else:
        for row in rows:
            print(f"{row['status']:<8} {row['transport']} ({row['kind']})  {row['answer']}".rstrip())
    return int(any(row["status"] != Fate.SENT.value for row in rows))


def _try(config: Config, post: Post, to: tuple[str, Wish]) -> tuple[str, str]:
    hide = redactor(config, os.environ)
    parcel = post.parcel(Trial(), to, hide, (f"trial {time.time()}", time.time()))
    if parcel is None:
        return Fate.REFUSED.value, "it has no recipient: set `[mail] to`, or use `--to ADDRESS`"
    letter = Letter(parcel.id, parcel.transport, parcel.sender, parcel.recipients, parcel.data)
    try:
        answers = transport_from(to[0], config.transport[to[0]], reader(config, os.environ)).send(letter)
    except MailError as error:
        return Fate.WAITING.value, hide(str(error))
    worst = max(answers.values(), key=lambda answer: list(Fate).index(answer.fate) if answer.fate is not Fate.SENT else -1)
    return worst.fate.value, hide("; ".join(f"{address}: {answer.text}".rstrip(": ") for address, answer in answers.items()))


def _flush(config: Config, outbox: Outbox, options: argparse.Namespace) -> int:
    from spooldadd.mail.notifier import Notifier  # late: most of this command does without

    the_spool = spool.open_spool(spool_path(options), claim.Holder(config.node))
    Notifier(config, the_spool, Log(2, level=config.log.level), os.environ).run(is_forced=True)
    waiting = outbox.entries("waiting")
    if waiting:
        say(f"spooldadd: {len(waiting)} still waiting; `spooldadd mail list` says for what")
    return int(bool(waiting))


def _list(outbox: Outbox, *, as_json: bool) -> int:
    entries = outbox.entries()
    if as_json:
        print_json({"outbox": outbox.directory, "letters": [_table(entry) for entry in entries]})
        return 0
    for entry in entries:
        said = "; ".join(sorted({answer.text for answer in entry.answers.values() if answer.text}))
        when = f"again at {timestamp(entry.next_s)[:19]}Z, " if entry.place == "waiting" and entry.tries else ""
        people = ", ".join(entry.answers)
        what = f"{entry.id}  {entry.place:<8} {entry.event:<9} {entry.job}"
        print(f"{what}  to {people} by {entry.transport}  {when}{said}".rstrip())
    if not entries:
        say(f"spooldadd: `{outbox.directory}` holds no letter")
    return 0


def _table(entry: Entry) -> dict[str, object]:
    answers = {address: {"fate": answer.fate.value, "answer": answer.text} for address, answer in entry.answers.items()}
    return {
        "letter": entry.id,
        "state": entry.place,
        "event": entry.event,
        "about": entry.job,
        "transport": entry.transport,
        "created_at": timestamp(entry.created_s),
        "tries": entry.tries,
        "recipients": answers,
    }
