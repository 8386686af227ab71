"""The flood rules: every failure is told exactly once, and nobody gets more mails than agreed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd.mail.cause import Cause
from spooldadd.mail.events import Digest, HeldBack
from spooldadd.mail.flood import HOUR_S, Fact, Rules, State, Verdict, fail, next_due_s, succeed, tell

RULES = Rules(digest_s=HOUR_S, per_hour=5, forget_s=86400.0)
START_S = 1_800_000_000.0


class Run:
    """Plays events against the machine and keeps the books."""

    def __init__(self, rules=RULES):
        self.rules, self.state, self.now_s = rules, State(), START_S
        self.told, self.mails_s, self.recovered = 0, [], []

    def fail(self, cause="a", name="nightly", after_s=1.0):
        self.now_s += after_s
        fact = Fact(name, f"{name}.job", Cause(cause, f"label {cause}"))
        self.state, verdict = fail(self.state, self.rules, fact, self.now_s)
        if verdict is Verdict.SEND:
            self.told += 1
            self.mails_s.append(self.now_s)
        return verdict

    def succeed(self, name="nightly", after_s=1.0):
        self.now_s += after_s
        self.state, verdict, failing = succeed(self.state, self.rules, name, self.now_s)
        if verdict is Verdict.SEND:
            self.recovered.append(name)
            self.mails_s.append(self.now_s)
        return verdict, failing

    def tell(self, after_s=0.0):
        self.now_s += after_s
        self.state, events = tell(self.state, self.rules, self.now_s)
        for event in events:
            self.told += sum(each.count for each in event.repeats)
            self.recovered.extend(event.recovered if isinstance(event, HeldBack) else ())
            self.mails_s.append(self.now_s)
        return events


def test_the_first_failure_of_a_cause_is_sent_at_once_and_repeats_are_counted():
    run = Run()
    assert [run.fail(), run.fail(), run.fail(name="hourly")] == [Verdict.SEND, Verdict.COUNT, Verdict.COUNT]
    assert run.fail("b") is Verdict.SEND


def test_repeats_go_into_one_digest_after_its_time_with_names_and_an_example():
    run = Run()
    run.fail(), run.fail(), run.fail(name="hourly"), run.fail("b"), run.fail("b")
    assert run.tell() == ()
    (digest,) = run.tell(after_s=HOUR_S)
    assert isinstance(digest, Digest) and digest.count == 3
    first = digest.repeats[0]
    assert (first.cause.label, first.count, first.names, first.example_job) == (
        "label a",
        2,
        ("nightly", "hourly"),
        "nightly.job",
    )
    assert run.tell(after_s=10 * HOUR_S) == ()
    assert run.told == 5


def test_it_is_known_when_the_next_digest_is_due():
    run = Run()
    assert next_due_s(run.state, RULES) is None
    run.fail()
    assert next_due_s(run.state, RULES) is None
    run.fail()
    assert next_due_s(run.state, RULES) == run.now_s + HOUR_S


def test_a_success_after_failures_is_one_recovery_and_ends_the_cause():
    run = Run()
    run.fail(), run.fail()
    verdict, failing = run.succeed()
    assert verdict is Verdict.SEND and failing.failures == 2 and failing.since_s == START_S + 1
    assert run.succeed() == (Verdict.COUNT, None)
    assert run.fail() is Verdict.SEND
    run.tell(after_s=HOUR_S)
    assert run.told == 3


def test_a_cause_goes_on_while_any_name_has_it():
    run = Run()
    run.fail(), run.fail(name="hourly"), run.succeed()
    assert run.fail() is Verdict.COUNT


def test_a_cause_that_was_quiet_for_long_is_new_again():
    run = Run()
    run.fail()
    assert run.fail(after_s=RULES.forget_s - 1) is Verdict.COUNT
    assert run.fail(after_s=RULES.forget_s + 1) is Verdict.SEND


def test_the_hourly_limit_holds_back_and_one_mail_says_how_many():
    run = Run()
    verdicts = [run.fail(f"cause {number}", f"name {number}") for number in range(12)]
    assert verdicts == [Verdict.SEND] * 5 + [Verdict.HOLD] * 7
    assert run.fail("cause 11", "name 11") is Verdict.COUNT
    assert run.succeed("name 3")[0] is Verdict.HOLD
    (held,) = run.tell(after_s=HOUR_S)
    assert isinstance(held, HeldBack)
    assert (held.mails, held.limit, held.recovered) == (8, 5, ("name 3",))
    assert sum(each.count for each in held.repeats) == 8
    assert run.told == 13
    assert run.fail("cause 11", "name 11") is Verdict.COUNT


def test_a_cause_whose_first_mail_is_held_back_is_not_held_back_again():
    run = Run()
    for number in range(5):
        run.fail(f"cause {number}", f"name {number}")
    assert run.fail("held", "x") is Verdict.HOLD
    assert run.succeed("x")[0] is Verdict.HOLD
    assert run.fail("held", "x") is Verdict.COUNT
    (held,) = run.tell(after_s=HOUR_S)
    assert held.mails == 2 and [each.count for each in held.repeats] == [2]


def test_a_thousand_failures_of_three_causes_are_a_handful_of_mails_that_account_for_all():
    run = Run(Rules())
    for number in range(1000):
        run.fail(f"cause {number % 3}", f"name {number % 7}", after_s=0.06)
        run.tell()
    run.tell(after_s=HOUR_S)
    assert len(run.mails_s) == 4
    assert run.told == 1000
    for number in range(7):
        run.succeed(f"name {number}")
    assert len(run.recovered) == 7
    assert run.tell(after_s=10 * HOUR_S) == ()


def test_a_great_many_causes_are_listed_in_bounded_space_with_their_sum():
    run = Run()
    for number in range(500):
        run.fail(f"cause {number}", f"name {number}", after_s=0.01)
    (held,) = run.tell(after_s=HOUR_S)
    assert len(held.repeats) == 51 and held.repeats[-1].cause.label == "445 other causes"
    assert run.told == 500


def test_a_clock_that_was_set_back_silences_nothing():
    run = Run()
    for number in range(8):
        run.fail(f"cause {number}")
        run.fail(f"cause {number}")
    run.now_s -= 10 * 86400
    assert run.fail("another") is Verdict.SEND
    run.tell()
    run.tell(after_s=HOUR_S)
    assert run.told == 17


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["fail", "fail", "fail", "succeed", "tell"]),
            st.integers(0, 8),
            st.integers(0, 3),
            st.sampled_from([0.0, 1.0, 600.0, 3600.0, 90000.0]),
        ),
        max_size=120,
    )
)
def test_whatever_happens_every_failure_and_recovery_is_told_once_and_the_limit_holds(steps):
    run = Run()
    failures = recoveries = 0
    for what, cause, name, after_s in steps:
        if what == "fail":
            failures += 1
            run.fail(f"cause {cause}", f"name {name}", after_s)
        elif what == "succeed":
            recoveries += run.succeed(f"name {name}", after_s)[1] is not None
        else:
            run.tell(after_s)
    for _ in range(4):
        run.tell(after_s=HOUR_S + 1)
    assert run.told == failures
    assert len(run.recovered) == recoveries
    for at_s in run.mails_s:
        within = sum(1 for other_s in run.mails_s if at_s - HOUR_S < other_s <= at_s)
        assert within <= RULES.per_hour + 1  # one more: the mail that says how many were held back
