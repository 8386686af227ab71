"""What `ErrorEmail` does with exceptions: who gets a mail, and that the exception goes on as it was."""

import asyncio
import contextlib
import email
import email.policy
import gc
import logging
import shlex
import sys
import threading

import pytest

from spooldadd.erroremail import MARK, ErrorEmail, ErrorEmailHandler, erroremail


class Mailbox:
    """Stands where sendmail would; each mail is a file."""

    def __init__(self, directory):
        self.directory = directory

    @property
    def config(self):
        script = f'cat > "$(mktemp {shlex.quote(str(self.directory))}/XXXXXX.eml)"'
        return {"SENDMAIL": ["sh", "-c", script, "sendmail"], "TO": "ops@example.org", "FROM": "jobs@example.org"}

    @property
    def mails(self):
        paths = sorted(self.directory.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
        return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in paths]

    @property
    def plain(self):
        (mail,) = self.mails
        return mail.get_body(("plain",)).get_content()

    @property
    def html(self):
        (mail,) = self.mails
        return mail.get_body(("html",)).get_content()


@pytest.fixture
def mailbox(tmp_path):
    return Mailbox(tmp_path)


class BadDay(Exception):
    pass


def fail(text="bad day"):
    raise BadDay(text)


def test_the_exception_goes_on_as_the_same_object_with_the_same_traceback(mailbox):
    error = BadDay("bad day")
    with pytest.raises(BadDay) as caught, ErrorEmail(mailbox.config):
        raise error
    assert caught.value is error
    assert error.__traceback__.tb_next is None
    assert error.__cause__ is None and error.__context__ is None
    assert len(mailbox.mails) == 1


def test_nothing_is_sent_and_nothing_is_read_when_nothing_fails(mailbox):
    with ErrorEmail({"TO": object()}):
        pass
    assert mailbox.mails == []


def test_the_plain_part_has_the_whole_traceback_with_message_cause_and_context(mailbox):
    with contextlib.suppress(BadDay), ErrorEmail(mailbox.config):
        try:
            try:
                int("x")
            except ValueError:
                fail("first")
        except BadDay as first:
            raise BadDay("second") from first
    text = mailbox.plain
    assert "ValueError: invalid literal for int() with base 10: 'x'" in text
    assert "During handling of the above exception" in text
    assert "direct cause" in text
    assert "BadDay: first" in text and "BadDay: second" in text
    assert 'raise BadDay("second") from first' in text


def test_notes_and_the_members_of_groups_are_in_both_parts(mailbox):
    inner = KeyError("missing")
    inner.add_note("look into settings.ini")
    with contextlib.suppress(ExceptionGroup), ErrorEmail(mailbox.config):
        raise ExceptionGroup("two things", [inner, ExceptionGroup("deep", [OSError("disk")])])
    for part in (mailbox.plain, mailbox.html):
        for text in ("two things", "missing", "look into settings.ini", "deep", "disk"):
            assert text in part


def test_the_html_part_shows_the_source_lines_around_the_failure(mailbox):
    with contextlib.suppress(BadDay), ErrorEmail(mailbox.config):
        fail()  # a comment that only the source has
    assert "a comment that only the source has" in mailbox.html
    assert "def fail(text=" in mailbox.html


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit(3), GeneratorExit, asyncio.CancelledError])
def test_ends_that_were_asked_for_are_not_mailed(mailbox, stop):
    with pytest.raises(BaseException), ErrorEmail(mailbox.config):
        raise stop
    assert mailbox.mails == []


def test_a_group_is_mailed_when_any_member_is_a_failure(mailbox):
    for members in ([KeyboardInterrupt()], [KeyboardInterrupt(), BadDay()]):
        with contextlib.suppress(BaseExceptionGroup), ErrorEmail(mailbox.config):
            raise BaseExceptionGroup("stopped", members)
    assert len(mailbox.mails) == 1


def test_nested_uses_mail_an_exception_once_and_other_recipients_get_their_own(mailbox):
    other = {**mailbox.config, "TO": "dev@example.org"}
    with contextlib.suppress(BadDay), ErrorEmail(mailbox.config), ErrorEmail(other), ErrorEmail(mailbox.config):
        fail()
    assert sorted(mail["To"] for mail in mailbox.mails) == ["dev@example.org", "ops@example.org"]


def test_the_same_failure_at_another_time_is_another_mail_in_the_same_thread(mailbox):
    for _ in range(2):
        with contextlib.suppress(BadDay), ErrorEmail(mailbox.config):
            fail()
    first, second = mailbox.mails
    assert first["Message-ID"] != second["Message-ID"]
    assert first["References"] == second["References"]


def test_the_configuration_is_read_when_something_fails(mailbox):
    config = {}
    with contextlib.suppress(BadDay), ErrorEmail(config):
        config.update(mailbox.config)
        fail()
    assert len(mailbox.mails) == 1


# --- decorators


def test_a_decorated_function_keeps_its_name_result_and_exception(mailbox):
    @erroremail(mailbox.config)
    def half(number):
        """Halve."""
        return 1 / number

    assert half.__name__ == "half" and half.__doc__ == "Halve."
    assert half(2) == 0.5
    with pytest.raises(ZeroDivisionError):
        half(0)
    assert len(mailbox.mails) == 1


def test_a_decorated_coroutine_function_is_still_one(mailbox):
    @erroremail(mailbox.config)
    async def work():
        await asyncio.sleep(0)
        fail("async")

    assert asyncio.iscoroutinefunction(work)
    with pytest.raises(BadDay):
        asyncio.run(work())
    assert "BadDay: async" in mailbox.plain


def test_an_event_loop_goes_on_while_a_mail_is_handed_over(mailbox, tmp_path):
    script = 'while [ ! -e "$0" ]; do sleep 0.01; done; cat > "$0.eml"'
    config = {**mailbox.config, "SENDMAIL": ["sh", "-c", script, str(tmp_path / "go")]}

    @erroremail(config)
    async def work():
        fail()

    async def main():
        async def let_go():
            (tmp_path / "go").touch()  # were the loop blocked, this would never run and the hand-over time out

        with contextlib.suppress(BadDay):
            await asyncio.gather(work(), let_go())

    asyncio.run(main())
    assert len(mailbox.mails) == 1


def test_a_decorated_generator_mails_what_its_body_raises_and_passes_on_what_is_sent(mailbox):
    @erroremail(mailbox.config)
    def rows():
        got = yield 1
        yield got
        fail("in the body")

    running = rows()
    assert next(running) == 1
    assert running.send("sent") == "sent"
    with pytest.raises(BadDay):
        next(running)
    assert "in the body" in mailbox.plain


def test_a_generator_that_is_dropped_half_way_is_no_failure(mailbox):
    @erroremail(mailbox.config)
    def rows():
        yield 1
        yield 2

    running = rows()
    next(running)
    running.close()
    assert mailbox.mails == []


def test_a_decorated_async_generator_works_in_both_directions(mailbox):
    @erroremail(mailbox.config)
    async def rows():
        try:
            got = yield 1
        except KeyError:
            got = "caught"
        yield got
        fail("in the body")

    async def main():
        running = rows()
        assert await running.__anext__() == 1
        assert await running.asend("sent") == "sent"
        with pytest.raises(BadDay):
            await running.__anext__()
        thrown = rows()
        await thrown.__anext__()
        assert await thrown.athrow(KeyError()) == "caught"
        await thrown.aclose()
        done = [each async for each in erroremail(mailbox.config)(quiet)()]
        assert done == [1]

    async def quiet():
        yield 1

    asyncio.run(main())
    assert len(mailbox.mails) == 1


# --- hooks


@pytest.fixture
def quiet_hooks(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: seen.append(args[1]))
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
    return seen


def test_install_mails_what_nobody_caught_after_the_hook_that_was_there(mailbox, quiet_hooks):
    mailer = ErrorEmail(mailbox.config).install()
    error = BadDay("nobody caught it")
    sys.excepthook(BadDay, error, None)
    assert quiet_hooks == [error]
    assert "nobody caught it" in mailbox.plain
    mailer.uninstall()


def test_install_mails_what_ends_a_thread_with_the_threads_name(mailbox, quiet_hooks):
    mailer = ErrorEmail(mailbox.config).install()
    thread = threading.Thread(target=fail, name="loader-7")
    thread.start()
    thread.join()
    mailer.uninstall()
    assert len(quiet_hooks) == 1
    assert "loader-7" in mailbox.plain


def test_uninstall_puts_the_hooks_back_and_install_twice_is_install_once(mailbox, quiet_hooks):
    before = sys.excepthook, threading.excepthook
    mailer = ErrorEmail(mailbox.config).install().install()
    mailer.uninstall()
    assert (sys.excepthook, threading.excepthook) == before
    mailer.uninstall()


def test_uninstall_below_another_hook_only_passes_on(mailbox, quiet_hooks):
    mailer = ErrorEmail(mailbox.config).install()
    ours = sys.excepthook
    sys.excepthook = lambda *args: ours(*args)
    mailer.uninstall()
    sys.excepthook(BadDay, BadDay(), None)
    assert len(quiet_hooks) == 1
    assert mailbox.mails == []
    mailer.install()
    sys.excepthook(BadDay, BadDay(), None)
    assert len(mailbox.mails) == 1


# --- logging


@pytest.fixture
def logger(mailbox):
    logger = logging.Logger("etl.load")
    logger.addHandler(ErrorEmailHandler(mailbox.config))
    return logger


def test_the_logging_handler_mails_errors_and_no_warnings(mailbox, logger):
    logger.warning("nothing much")
    logger.error("cannot load %s", "2026-11-20")
    assert mailbox.mails[0]["Subject"] == "ErrorEmail: cannot load 2026-11-20"
    assert "etl.load" in mailbox.plain


def test_the_logging_handler_sends_the_traceback_of_a_logged_exception_once(mailbox, logger):
    with contextlib.suppress(BadDay), ErrorEmail(mailbox.config):
        try:
            fail("logged and raised")
        except BadDay:
            logger.exception("it went wrong")
            raise
    assert "Traceback (most recent call last)" in mailbox.plain
    assert "it went wrong" in mailbox.plain


def test_a_log_record_whose_arguments_do_not_fit_is_mailed_all_the_same(mailbox, logger):
    logger.error("%d rows", "many")
    assert "%d rows" in mailbox.plain


# --- when nothing can be sent


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({}, "neither SERVER nor SENDMAIL is set; TO is missing; FROM is missing"),
        (42, "neither a mapping nor a path"),
        ("/nonexistent/erroremail.toml", "cannot read"),
        ({"SENDMAIL": "/nonexistent/sendmail", "TO": "a@example.org", "FROM": "b@example.org"}, "No such file"),
        ({"SENDMAIL": "false", "TO": "a@example.org", "FROM": "b@example.org"}, "SENDMAIL"),
        ({"SENDMAIL": "/bin/false", "TO": "a@example.org", "FROM": "b@example.org"}, "it ended with 1"),
    ],
)
def test_one_line_on_stderr_says_why_no_mail_was_sent(capsys, config, why):
    error = BadDay()
    with pytest.raises(BadDay) as caught, ErrorEmail(config):
        raise error
    assert caught.value is error
    said = capsys.readouterr().err
    assert said.startswith("erroremail: no mail was sent: ") and said.count("\n") == 1
    assert why in said


def test_no_stderr_is_no_problem(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "__stderr__", None)
    with pytest.raises(BadDay), ErrorEmail({}):
        fail()


def test_the_time_limit_bounds_the_hand_over_to_sendmail(mailbox, capsys):
    config = {**mailbox.config, "SENDMAIL": ["sh", "-c", "exec sleep 60"], "TIMEOUT_S": 0.2}
    with pytest.raises(BadDay), ErrorEmail(config):
        fail()
    assert "no answer in time" in capsys.readouterr().err


class Hostile(BadDay):
    def __str__(self):
        raise SystemExit("from __str__")

    __repr__ = __str__


class HostileValue:
    def __repr__(self):
        raise SystemExit("from __repr__")

    def __getattr__(self, name):
        raise AssertionError(name)

    @property
    def __class__(self):
        raise RuntimeError("working outside of request context")


def test_an_exception_and_locals_whose_own_code_raises_are_mailed(mailbox):
    def work():
        odd = HostileValue()
        more = [odd, {"password": odd}]
        raise Hostile(odd, more)

    with pytest.raises(Hostile), ErrorEmail({**mailbox.config, "LOCALS": True}):
        work()
    assert "Hostile" in mailbox.plain
    assert "whose repr() raised SystemExit" in mailbox.plain


def test_an_exception_that_takes_no_attributes_is_mailed(mailbox):
    class Frozen(Exception):
        def __setattr__(self, name, value):
            raise AttributeError(name)

    with pytest.raises(Frozen), ErrorEmail(mailbox.config):
        raise Frozen
    assert len(mailbox.mails) == 1


def test_huge_values_and_messages_are_cut_and_the_cut_is_marked(mailbox):
    def work():
        huge = "x" * 5_000_000
        many = list(range(1_000_000))
        raw = b"\xff" * 5_000_000
        raise BadDay(huge, len(many), len(raw))

    with pytest.raises(BadDay), ErrorEmail({**mailbox.config, "LOCALS": True}):
        work()
    assert len(mailbox.plain) < 200_000
    assert "characters left out" in mailbox.plain
    assert len(mailbox.html) < 200_000


def test_deep_recursion_and_long_chains_are_mailed(mailbox):
    def dive():
        return dive() + 1

    with contextlib.suppress(RecursionError), ErrorEmail(mailbox.config):
        dive()
    assert "RecursionError" in mailbox.plain
    assert "frames are shown" in mailbox.html

    first = BadDay("first")
    for _ in range(3000):
        following = BadDay("following")
        following.__cause__ = first
        first = following
    with contextlib.suppress(BadDay), ErrorEmail(mailbox.config):
        raise first
    assert len(mailbox.mails) == 2


def test_causes_that_form_a_circle_end(mailbox):
    one, two = BadDay("one"), BadDay("two")
    one.__cause__, two.__cause__ = two, one
    with contextlib.suppress(BadDay), ErrorEmail(mailbox.config):
        raise one
    assert "BadDay: two" in mailbox.html


def test_no_frame_and_no_local_is_kept_alive_after_the_mail(mailbox):
    class Big:
        alive = 0

        def __init__(self):
            Big.alive += 1

        def __del__(self):
            Big.alive -= 1

    def work():
        big = Big()
        fail(f"with {type(big).__name__}")

    with contextlib.suppress(BadDay), ErrorEmail({**mailbox.config, "LOCALS": True}):
        work()
    gc.collect()
    assert Big.alive == 0


def test_an_exception_is_marked_with_nothing_that_cannot_be_pickled(mailbox):
    error = BadDay()
    with contextlib.suppress(BadDay), ErrorEmail(mailbox.config):
        raise error
    assert list(vars(error)) == [MARK]
    assert all(isinstance(each, str) for each in vars(error)[MARK])


def test_a_text_of_the_callers_own_can_be_sent(mailbox):
    assert ErrorEmail(mailbox.config, queue="etl").send("no rows today", "the table was empty", table="sales")
    assert mailbox.mails[0]["Subject"] == "ErrorEmail: no rows today"
    assert "the table was empty" in mailbox.plain and "sales" in mailbox.plain and "etl" in mailbox.plain
