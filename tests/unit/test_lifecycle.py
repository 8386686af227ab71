import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd import lifecycle
from spooldadd.lifecycle import DONE, FAILED, OUTCOMES, WAITING, Policy, backoff_s, decide

CHANCES = st.floats(0, 1, exclude_max=True)
RETRIED = tuple(outcome for outcome in OUTCOMES if outcome not in ("success", "invalid", "cancelled", "lost"))


def test_success_is_done_whatever_the_policy():
    assert decide("success", 1, Policy(attempts=9, on=OUTCOMES, restartable=True), 0.5).state == DONE


@pytest.mark.parametrize("outcome", ["invalid", "cancelled"])
def test_what_another_attempt_cannot_help_fails_at_once(outcome):
    assert decide(outcome, 1, Policy(attempts=9, on=OUTCOMES, restartable=True), 0.5).state == FAILED


@pytest.mark.parametrize("outcome", RETRIED)
def test_an_outcome_that_is_named_is_tried_again_while_attempts_are_left(outcome):
    policy = Policy(attempts=3, on=(outcome,))
    assert [decide(outcome, attempt, policy, 0.5).state for attempt in (1, 2, 3, 4)] == [WAITING, WAITING, FAILED, FAILED]


@pytest.mark.parametrize("outcome", RETRIED)
def test_an_outcome_that_is_not_named_fails(outcome):
    others = tuple(set(RETRIED) - {outcome})
    assert decide(outcome, 1, Policy(attempts=9, on=others), 0.5).state == FAILED


@pytest.mark.parametrize("outcome", RETRIED)
def test_without_a_number_of_attempts_there_is_one(outcome):
    assert decide(outcome, 1, Policy(on=OUTCOMES), 0.5).state == FAILED


def test_a_lost_attempt_is_repeated_only_where_the_spec_says_so():
    assert decide("lost", 1, Policy(attempts=9, on=OUTCOMES), 0.5).state == FAILED
    again = decide("lost", 1, Policy(restartable=True), 0.5)
    assert (again.state, again.delay_s) == (WAITING, 0.0)


def test_a_job_that_takes_its_node_down_stops_somewhere():
    policy = Policy(restartable=True)
    assert decide("lost", lifecycle.LOST_ATTEMPTS - 1, policy, 0.5).state == WAITING
    assert decide("lost", lifecycle.LOST_ATTEMPTS, policy, 0.5).state == FAILED
    assert decide("lost", 2, Policy(restartable=True, attempts=2), 0.5).state == FAILED


@given(st.sampled_from(OUTCOMES), st.integers(1, 2000), st.booleans(), CHANCES)
def test_every_outcome_leads_to_exactly_one_state(outcome, attempt, restartable, chance):
    decision = decide(outcome, attempt, Policy(attempts=5, on=OUTCOMES, restartable=restartable), chance)
    assert decision.state in (DONE, FAILED, WAITING)
    assert decision.delay_s >= 0
    assert decision.state == WAITING or decision.delay_s == 0


@given(st.integers(1, 10**6), st.floats(0, 1e6), st.floats(0, 1e6), CHANCES)
def test_backoff_stays_within_its_maximum_and_jitter(attempt, first_s, more_s, chance):
    policy = Policy(backoff_s=first_s, backoff_max_s=first_s + more_s)
    wait_s = backoff_s(attempt, policy, chance)
    plain_s = min(first_s * 2.0 ** min(attempt - 1, 60), first_s + more_s)
    assert plain_s * (1 - lifecycle.JITTER) * 0.999 <= wait_s <= plain_s * (1 + lifecycle.JITTER) * 1.001


def test_backoff_doubles():
    policy = Policy(backoff_s=30, backoff_max_s=100)
    assert [backoff_s(attempt, policy, 0.5) for attempt in (1, 2, 3, 4)] == pytest.approx([30, 60, 100, 100])
