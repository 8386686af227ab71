"""What a worker knows about telling: who hears of which job; and its own word about what it files itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from spooldadd import durable, layout, looking, names, notice
from spooldadd.config import PREFIX, Config
from spooldadd.log import Log
from spooldadd.mail.places import Places, places_of
from spooldadd.mail.wishes import Wish, lacks_transport, wish_of, wish_of_spec
from spooldadd.notice import Telling
from spooldadd.spec import Spec
from spooldadd.spool import Spool

PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Runs the package that lies beside us, however it was installed, and nothing from the current directory.
START = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('spooldadd.mail', run_name='__main__')"


class Notices:
    """For one spool and one configuration. Where that has no transport, nothing is ever told, and nothing costs anything."""

    def __init__(self, the_spool: Spool, config: Config, log: Log) -> None:
        self._spool = the_spool
        self._config = config
        self._log = log
        self.is_on = bool(config.transport)
        self.has_news = False  # word was left that the notifier has not been started for
        self.places: Places = places_of(config, the_spool)

    @property
    def directory(self) -> str:
        """Where word for this node's notifier is left."""
        return os.path.join(self._spool.places.notify, self._spool.holder.node)

    def command(self) -> list[str]:
        """Return the notifier's command: a fresh program of the package that is installed now."""
        file = ["--config", self._config.file] if self._config.file else []
        own = ["--spool", self._spool.places.root, "--node", self._spool.holder.node]
        return [sys.executable, "-I", "-c", START, PACKAGE_PARENT, *own, *file]

    def telling(self, spec: Spec, job: str) -> Telling:
        """Return what a supervisor needs to know about telling the end of this job."""
        objection = lacks_transport(self._config, spec)
        if objection:
            self._log.warning("mail-off", job=job, reason=objection, then="running it all the same")
        wish = wish_of(self._config, spec.notify, spec.queue) if self.is_on else None
        return self._telling(wish, spec.name or names.job_name(job))

    def leave(self, record_name: str, path: str, result: Mapping[str, object]) -> None:
        """Leave word about a record that the worker is about to file, where somebody is to hear of it.

        What keeps it from being left costs a mail, never the filing.
        """
        if not self.is_on:
            return
        wish = wish_of_spec(self._config, looking.read_toml(layout.find_spec(path)), str(result.get("queue", "default")))
        telling = self._telling(wish, str(result.get("name", "")))
        if not notice.is_wanted(telling, result):
            return
        try:
            notice.leave(self._spool.places, self._spool.holder.node, record_name, sync=self._spool.sync)
        except OSError as error:
            self._log.warning("mail-failed", record=record_name, error=str(error), then="filing it without a mail")
            return
        if result.get("state") == layout.FAILED:
            notice.mark_failing(telling)
        self.has_news = True

    def inherit(self, lost: str) -> int:
        """Take over what a lost node had not told yet of jobs that were filed; return how much that was. Raises: OSError.

        To be called when its records were brought back. Nothing where we could not tell it either. If we die here: a word
        that is in both places: where the lost node is back before the next call, one mail may come twice; none is lost.
        """
        own, places = self._spool.holder.node, self._spool.places
        if not self.is_on or lost in ("", own):
            return 0
        directory, count = os.path.join(places.notify, lost), 0
        try:
            left = sorted(os.listdir(directory))
        except FileNotFoundError:
            return 0
        running = frozenset(os.listdir(places.running)) if left else frozenset()
        for entry in left:
            if names.parse_record_name(entry) is None or entry in running:
                continue
            notice.leave(places, own, entry, sync=self._spool.sync)  # makes the directory, too
            durable.unlink_if_there(os.path.join(directory, entry))
            count += 1
        if count:
            self.has_news = True
            self._log.info("mail-inherited", node=lost, count=count, then=f"`{own}` tells it")
        return count

    def _telling(self, wish: Wish | None, name: str) -> Telling:
        telling = Telling()
        if wish is None or wish.is_empty:
            return telling
        telling.on = sorted(wish.on)
        telling.failing = os.path.join(self.places.failing, names.safe_name(name))
        telling.command = self.command()
        telling.environ = {key: value for key, value in os.environ.items() if key.startswith(PREFIX)}
        # A supervisor may have none of the variables that these are made from.
        telling.environ[f"{PREFIX}MAIL__OUTBOX"] = self.places.outbox
        telling.environ[f"{PREFIX}WORK_DIR"] = self._config.work_dir
        return telling
