"""Where a spool is, as people write it; and what rsync and ssh say, as people can use it."""

import pytest

from spooldadd.remote import listing
from spooldadd.remote.rsync import Answer, explain, trouble
from spooldadd.remote.targets import BadTarget, is_address, parse


@pytest.mark.parametrize(
    ("text", "host", "path", "inbox"),
    [
        ("web-1:/srv/spool", "web-1", "/srv/spool", ""),
        ("jobs@web-1.example.org:/srv/spool/", "jobs@web-1.example.org", "/srv/spool", ""),
        ("web-1:spool", "web-1", "spool", ""),
        ("web-1:", "web-1", "", ""),
        ("restricted:/", "restricted", "/", ""),
        ("[fe80::1]:/srv/spool", "[fe80::1]", "/srv/spool", ""),
        ("hub:/srv/spool/@web-2", "hub", "/srv/spool", "@web-2"),
        ("/srv/spo:ol/@web-2", "", "/srv/spo:ol", "@web-2"),
        ("/srv/two words", "", "/srv/two words", ""),
        ("web-1:/srv/grüße", "web-1", "/srv/grüße", ""),
    ],
)
def test_a_target_is_read_as_rsync_reads_it(text, host, path, inbox):
    found = parse(text)
    assert (found.host, found.path, found.inbox) == (host, path, inbox)


@pytest.mark.parametrize(
    "text", ["", "rsync://host/module", "host::module", "-oProxyCommand=id:/x", "a b:/x", "a@b@c:/x", "x\0:/y"]
)
def test_what_is_no_target_or_could_be_an_option_is_refused(text):
    with pytest.raises(BadTarget):
        parse(text)


def test_paths_within_a_spool_are_those_of_rsync():
    assert parse("web-1:/srv/spool").at(".spool", "format.toml") == "web-1:/srv/spool/.spool/format.toml"
    assert parse("restricted:/").at(".spool") == "restricted:/.spool"
    assert parse("web-1:").at("done") == "web-1:done"
    assert parse("web-1:/two words").on_host("wait", "x") == "spooldadd --spool '/two words' wait x"


def test_a_name_is_no_address():
    assert [is_address(text) for text in ("web-1", "web-1:", "./x", "/x", "..")] == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("code", "said", "sentence", "is_transient"),
    [
        (255, "ssh: connect to host x port 22: Connection refused", "it cannot be reached now", True),
        (255, "Host key verification failed.", "ssh-keygen -R web-1", False),
        (255, "jobs@web-1: Permission denied (publickey).", "ssh refuses the login", False),
        (11, 'rsync: write failed on "/x": No space left on device (28)', "no space on the other side", False),
        (127, "bash: rsync: command not found", "rsync is not installed on the other side", False),
        (30, "[Receiver] io timeout after 60 seconds -- exiting", "it cannot be reached now", True),
        (12, "rsync: connection unexpectedly closed (0 bytes received so far) [sender]", "the connection broke", True),
        (23, 'rsync: [Receiver] mkstemp "/x" failed: Permission denied (13)', "has no right", False),
        (99, "", "exit code 99", False),
    ],
)
def test_a_failure_has_its_remedy_and_the_words_of_the_program(code, said, sentence, is_transient):
    answer, target = Answer(code, "", said), parse("jobs@web-1:/srv/spool")
    told = explain(answer, target)
    assert sentence in told
    assert said.split(":")[-1].strip() in told
    assert trouble(answer, target).is_transient is is_transient


def test_a_listing_is_read_with_whatever_is_in_its_names():
    text = (
        "drwxr-xr-x          4,096 2026/11/21 22:37:20 failed\n"
        "drwxr-xr-x          4,096 2026/11/21 22:37:20 failed/two words\n"
        "-rw-r--r--          1,024 2026/11/21 22:37:21 failed/two words/result.toml\n"
        "a banner\n"
    )
    found = listing.parse(text)
    assert found["failed/two words"].is_directory
    assert found["failed/two words/result.toml"] == (False, "1024 2026/11/21 22:37:21")
    assert len(found) == 3
