from spooldadd.backlog import Entry
from spooldadd.spreading import Spread


def entry(key, *, is_record=False):
    return Entry(key, is_record, key, "default", 0, 0.0)


def test_what_is_left_to_others_for_a_shorter_time_does_not_wait_for_what_is_left_for_longer():
    spread = Spread("alpha")
    spread.meet([("beta", 1), ("gamma", 1)])
    spread.sift([entry("a.toml")], 0.0, 2.5)
    spread.sift([entry("b.toml"), entry("c.toml")], 1.0, 0.5)
    assert spread.next_at == 1.5
    assert [found.key for found in spread.ripe(1.5)] == ["b.toml", "c.toml"]
    assert (spread.kept_back, [found.key for found in spread.ripe(2.5)]) == (1, ["a.toml"])


def test_what_is_in_our_inbox_is_ours_at_once_however_many_nodes_serve():
    """By their checksums nine of ten would be left to other nodes for a moment, which never see them."""
    spread = Spread("alpha")
    spread.meet([("alpha", 1), *((f"node-{number}", 10) for number in range(9))])
    inbox = [entry(f"@alpha/{number}.toml") for number in range(50)]
    assert spread.sift(inbox, 0.0, 1.0) == inbox
    assert len(spread.sift([entry(f"{number}.toml") for number in range(50)], 0.0, 1.0)) < 25
