from spooldadd.backlog import Entry
from spooldadd.spreading import Spread


def entry(key, *, is_record=False):
    return Entry(key, is_record, key, "default", 0, 0.0)


def test_what_is_in_our_inbox_is_ours_at_once_however_many_nodes_serve():
    """By their checksums nine of ten would be left to other nodes for a moment, which never see them."""
    spread = Spread("alpha")
    spread.meet([("alpha", 1), *((f"node-{number}", 10) for number in range(9))])
    inbox = [entry(f"@alpha/{number}.toml") for number in range(50)]
    assert spread.sift(inbox, 0.0, 1.0) == inbox
    assert len(spread.sift([entry(f"{number}.toml") for number in range(50)], 0.0, 1.0)) < 25
