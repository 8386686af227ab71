"""How the configuration of `ErrorEmail` is read, and that every fault in it is told at once."""

import pytest

from spooldadd.erroremail import (
    ConfigError,
    ErrorEmail,
    Mailbox,
    Rate,
    load_config,
    parse_mailboxes,
    parse_settings,
)

GOOD = {"SERVER": "mail.example.org", "TO": "ops@example.org", "FROM": "jobs@example.org"}


def faults_of(**changes):
    with pytest.raises(ConfigError) as caught:
        parse_settings({**GOOD, **changes})
    return caught.value.faults


def test_the_old_configuration_is_enough():
    settings = parse_settings(GOOD)
    assert (settings.server.host, settings.server.port) == ("mail.example.org", 25)
    assert settings.recipients == (Mailbox("", "ops@example.org"),)
    assert settings.subject == "ErrorEmail: {message}"


def test_recipients_are_a_text_a_list_or_a_text_of_several():
    for to in ("a@example.org, B <b@example.org>", ["a@example.org", "B <b@example.org>"]):
        settings = parse_settings({**GOOD, "TO": to})
        assert settings.recipients == (Mailbox("", "a@example.org"), Mailbox("B", "b@example.org"))


@pytest.mark.parametrize(("tls", "port"), [("", 25), ("starttls", 587), ("SSL", 465)])
def test_the_port_follows_from_tls(tls, port):
    assert parse_settings({**GOOD, "TLS": tls}).server.port == port


def test_all_faults_are_told_at_once():
    faults = faults_of(PORT="many", TLS="tls", TO=[], FROM="x@y@", TIMEOUT_S=0, RATE="often", LOCALS="perhaps")
    for key in ("PORT", "TLS", "TO", "FROM", "TIMEOUT_S", "RATE", "LOCALS"):
        assert any(fault.startswith(key) for fault in faults), key


def test_a_password_is_not_sent_in_clear_to_another_host():
    login = {"USERNAME": "jobs", "PASSWORD": "hunter2"}
    assert "in clear" in faults_of(**login)[0]
    assert parse_settings({**GOOD, **login, "TLS": "starttls"}).server.username == "jobs"
    assert parse_settings({**GOOD, **login, "SERVER": "localhost"}).server.username == "jobs"


def test_the_password_is_in_no_representation():
    settings = parse_settings({**GOOD, "USERNAME": "jobs", "PASSWORD": "hunter2", "TLS": "ssl"})
    assert "hunter2" not in repr(settings)


def test_a_name_without_a_password_is_a_fault():
    assert "belong together" in faults_of(USERNAME="jobs", TLS="ssl")[0]


@pytest.mark.parametrize(("value", "rate"), [("5/60", Rate(5, 60.0)), ([2, 0.5], Rate(2, 0.5)), ("", None), (0, None)])
def test_the_rate_is_mails_and_minutes(value, rate):
    assert parse_settings({**GOOD, "RATE": value}).rate == rate


@pytest.mark.parametrize("value", ["5", "0/5", "5/0", "a/b", [1], True, "1/2/3", {"a": 1}])
def test_another_rate_is_a_fault(value):
    assert any("RATE" in fault for fault in faults_of(RATE=value))


@pytest.mark.parametrize(
    ("value", "command"),
    [
        (True, ("/usr/sbin/sendmail",)),
        ("yes", ("/usr/sbin/sendmail",)),
        (False, ()),
        ("/usr/bin/msmtp -a ops", ("/usr/bin/msmtp", "-a", "ops")),
        (["/opt/my mail", "-x"], ("/opt/my mail", "-x")),
    ],
)
def test_sendmail_is_a_flag_or_a_command(value, command):
    assert parse_settings({**GOOD, "SENDMAIL": value}).sendmail == command


def test_sendmail_alone_needs_no_server():
    settings = parse_settings({"SENDMAIL": True, "TO": "root", "FROM": "root"})
    assert settings.server is None
    assert settings.recipients == (Mailbox("", "root"),)


@pytest.mark.parametrize(
    "text",
    [
        "ops@example.org\nBcc: all@example.org",
        "ops@example.org\r\nX: y",
        "Ops\u2028 <ops@example.org>",
        "ops@",
        "@example.org",
        "a b@example.org",
        "-oQ/tmp@example.org",
        "ops@exa mple.org",
        "ops@" + "x" * 70 + ".org",
        "ops@example..org",
        "ops@\udcff.org",
        "<>",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match=r"is no|control"):
        parse_mailboxes(text)


def test_addresses_outside_ascii_are_kept_and_their_domains_encoded():
    assert parse_mailboxes("Zoë <zoë@exämple.org>") == [Mailbox("Zoë", "zoë@xn--exmple-cua.org")]


def test_a_toml_file_may_have_a_table_of_its_own(tmp_path):
    path = tmp_path / "mail.toml"
    path.write_text(
        'other = 1\n[erroremail]\nserver = "mail.example.org"\nto = ["ops@example.org"]\nfrom = "j@example.org"\n'
    )
    assert ErrorEmail(path).settings().server.host == "mail.example.org"
    path.write_text('SERVER = "flat.example.org"\nTO = "a@example.org"\nFROM = "b@example.org"\n')
    assert ErrorEmail(str(path)).settings().server.host == "flat.example.org"


def test_a_relative_path_means_where_the_script_began(tmp_path, monkeypatch):
    (tmp_path / "mail.toml").write_text('SERVER = "a.example.org"\nTO = "a@example.org"\nFROM = "b@example.org"\n')
    monkeypatch.chdir(tmp_path)
    mailer = ErrorEmail("mail.toml")
    monkeypatch.chdir("/")
    assert mailer.settings().server.host == "a.example.org"


def test_broken_toml_is_a_fault_that_names_the_file(tmp_path):
    path = tmp_path / "mail.toml"
    path.write_text("SERVER = \n")
    with pytest.raises(ConfigError, match=r"mail\.toml"):
        ErrorEmail(path).settings()


def test_the_environment_is_read_and_wins_over_the_file_that_it_names(tmp_path, monkeypatch):
    path = tmp_path / "mail.toml"
    path.write_text('SERVER = "file.example.org"\nTO = "file@example.org"\nFROM = "b@example.org"\n')
    monkeypatch.setenv("ERROREMAIL_CONFIG", str(path))
    monkeypatch.setenv("ERROREMAIL_TO", "one@example.org,two@example.org")
    monkeypatch.setenv("ERROREMAIL_PORT", "2525")
    monkeypatch.setenv("ERROREMAIL_TIMEOUT_S", "")
    settings = ErrorEmail().settings()
    assert [box.address for box in settings.recipients] == ["one@example.org", "two@example.org"]
    assert (settings.server.host, settings.server.port) == ("file.example.org", 2525)
    assert load_config(None)["PORT"] == "2525"


def test_check_tells_faults_and_misspelled_keys_and_leaves_other_keys_alone():
    assert ErrorEmail(GOOD).check() == []
    assert ErrorEmail({**GOOD, "DEBUG": True}).check() == []
    assert ErrorEmail({**GOOD, "SUBJEKT": "x"}).check() == ["SUBJEKT is no setting; did you mean SUBJECT?"]
    assert any("TO is missing" in fault for fault in ErrorEmail({"SERVER": "x"}).check())
