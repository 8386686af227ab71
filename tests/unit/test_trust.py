import grp
import os
import pwd

import pytest

from spooldadd import trust
from spooldadd.errors import ConfigError
from spooldadd.trust import Trust, of_config

ME = 1234567  # nobody has this number, so names do not come into it


def status(mode, uid=ME, gid=ME):
    return os.stat_result((0o100000 | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o444, 0o000, 0o640])
def test_what_only_its_owner_can_change_is_trusted(mode):
    assert Trust(frozenset({ME})).objection(status(mode), "it") is None


@pytest.mark.parametrize("mode", [0o602, 0o666, 0o777, 0o1777])
def test_what_everybody_can_change_is_not_trusted(mode):
    objection = Trust(frozenset({ME}), frozenset({ME})).objection(status(mode), "it")
    assert "may be changed by everybody" in objection
    assert "`chmod o-w` it" in objection


def test_what_a_group_can_change_is_trusted_where_the_group_is():
    assert "by the group `1234567`" in Trust(frozenset({ME})).objection(status(0o660), "it")
    assert Trust(frozenset({ME}), frozenset({ME})).objection(status(0o660), "it") is None


def test_what_belongs_to_somebody_else_is_not_trusted_whatever_its_mode():
    objection = Trust(frozenset({0})).objection(status(0o600), "the spec")
    assert objection.startswith("the spec belongs to `1234567`")
    assert "accepted are files of root" in objection


def test_a_group_of_which_the_owner_is_the_only_member_counts_as_the_owner(monkeypatch):
    alice = pwd.struct_passwd(("alice", "x", ME, ME, "", "/", "/bin/sh"))
    bob = pwd.struct_passwd(("bob", "x", ME + 1, ME, "", "/", "/bin/sh"))
    people, members = [alice], []
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: alice)
    monkeypatch.setattr(pwd, "getpwall", lambda: people)
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: grp.struct_group(("alice", "x", ME, members)))
    rule = Trust(frozenset({ME}))
    for changed, is_trusted in ((lambda: None, True), (lambda: members.append("bob"), False)):
        changed()
        trust.is_private_group.cache_clear()
        assert (rule.objection(status(0o664), "it") is None) == is_trusted
    members.clear()
    people.append(bob)  # nobody is listed, and yet it is another's first group
    trust.is_private_group.cache_clear()
    assert rule.objection(status(0o664), "it") is not None
    trust.is_private_group.cache_clear()


def test_our_own_files_and_those_of_root_are_always_accepted():
    rule = of_config(["nobody", 4242], ["root", 4343])
    assert rule.owners == {0, os.geteuid(), pwd.getpwnam("nobody").pw_uid, 4242}
    assert rule.groups == {0, 4343}


def test_unknown_users_and_groups_are_told_to_the_operator():
    with pytest.raises(ConfigError, match=r"owners.*no-such-user"):
        of_config(["no-such-user"])
    with pytest.raises(ConfigError, match=r"groups.*no-such-group"):
        of_config((), ["no-such-group"])


def test_who_has_no_name_is_shown_by_number():
    assert (trust.user_name(ME), trust.group_name(ME)) == ("1234567", "1234567")
    assert (trust.user_name(0), trust.group_name(0)) == ("root", "root")
