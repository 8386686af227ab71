from spooldadd import sources


def test_a_file_stands_still_for_longer_than_its_growth_may_stay_unseen():
    assert sources.settle_s_of(0.0, is_network=False) == sources.SETTLE_S
    assert sources.settle_s_of(0.0, is_network=True) == sources.NETWORK_SETTLE_S
    assert sources.settle_s_of(21.6, is_network=True) > 21.6
    assert sources.settle_s_of(1e9, is_network=True) == sources.MOST_SETTLE_S
