import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd.placement import ANYWHERE, NOTHING, Needs, Offer, Place, lacking, objections, owner, winner

GIB = 2**30
NODE = Offer("etl-1", frozenset({"ssd", "gpu"}), Needs(4000, 8 * GIB, 2))
NODES = ("alpha", "beta", "gamma")


def rules(place, offer=NODE):
    return [objection.rule for objection in objections(place, offer)]


def test_a_spec_without_a_place_fits_every_node():
    assert rules(ANYWHERE, Offer("any")) == []


@pytest.mark.parametrize(("patterns", "fits"), [(("etl-*",), True), (("web-*", "etl-?"), True), (("ETL-*",), False)])
def test_the_name_has_to_match_one_of_the_patterns_letter_by_letter(patterns, fits):
    assert (rules(Place(patterns)) == []) is fits


def test_all_labels_are_needed():
    assert rules(Place(labels=("gpu", "ssd"))) == []
    assert rules(Place(labels=("gpu", "tape"))) == ["place-labels"]


def test_what_needs_more_than_the_node_has_in_all_does_not_fit():
    assert rules(Place(needs=NODE.capacity)) == []
    assert rules(Place(needs=Needs(gpus=3))) == ["place-capacity"]
    assert rules(Place(("web-*",), ("tape",), Needs(millicpus=5000))) == ["place-node", "place-labels", "place-capacity"]


def test_a_sentence_names_every_amount_that_is_too_large():
    (found,) = objections(Place(needs=Needs(500, 16 * GIB, 4)), NODE)
    assert found.sentence == "the job needs more than it has: 16G of memory, of 8G in all, 4 GPUs, of 2 in all"
    assert lacking(Needs(1000), Needs(-500), "free now") == "1 CPU, of 0 free now"


def test_what_is_not_needed_may_be_overdrawn():
    assert Needs(gpus=1).fits_in(Needs(-1000, 0, 1))
    assert not Needs(millicpus=1, gpus=1).fits_in(Needs(-1000, 0, 1))
    assert NOTHING.fits_in(Needs(-1, -1, -1))


def test_the_winner_of_a_name_is_the_same_in_every_release():
    """Two nodes of different releases that reckon differently would both run a drop, or neither."""
    found = [winner(f"job-{number}.toml", NODES) for number in range(8)]
    assert found == EXPECTED
    assert winner("job-0.toml", NODES[::-1]) == EXPECTED[0]


EXPECTED = ["alpha", "beta", "alpha", "gamma", "alpha", "alpha", "beta", "gamma"]


@given(st.text(max_size=20), st.sets(st.text("abc-", min_size=1, max_size=4), min_size=1, max_size=6), st.data())
def test_a_node_more_takes_drops_only_for_itself(key, nodes, data):
    one = data.draw(st.sampled_from(sorted(nodes)))
    rest = sorted(nodes - {one})
    if rest and winner(key, sorted(nodes)) != one:
        assert winner(key, rest) == winner(key, sorted(nodes))


def test_drops_are_spread_evenly():
    counts = dict.fromkeys(NODES, 0)
    for number in range(3000):
        counts[winner(f"{number}.toml", NODES)] += 1
    assert min(counts.values()) > 850


def test_the_owner_is_one_of_those_that_the_spec_names():
    for number in range(20):
        assert owner(Place(("be*",)), f"{number}.toml", NODES) == "beta"
    assert owner(Place(("nobody",)), "1.toml", NODES) == winner("1.toml", NODES)
