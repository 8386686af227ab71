"""A job's secrets are learned from where they stand, and hidden in tables as well as in texts."""

from spooldadd.mail.redact import hide_in_table, redactor_for


def test_secrets_are_learned_from_the_environment_the_spec_and_the_secrets_themselves():
    hide = redactor_for(
        {"DB_PASSWORD": "environ-secret", "HOME": "/home/etl"},
        {"db": "postgres://etl:url-secret@db.example.org/x", "nested": {"api_key": ["listed-secret"]}},
        names=["iban*"],
        secrets=["file-secret"],
    )
    hidden = hide("environ-secret url-secret listed-secret file-secret iban_1=DE0012 /home/etl")
    assert hidden == "[hidden] [hidden] [hidden] [hidden] iban_1=[hidden] /home/etl"


def test_a_table_is_hidden_by_names_and_values_at_every_depth():
    hide = redactor_for(secrets=["hunter2"])
    table = {"token": 1234, "a": {"password": "x", "text": "with hunter2", "list": ["hunter2", 1]}, "n": 1.5}
    assert hide_in_table(table, hide) == {
        "token": "[hidden]",
        "a": {"password": "[hidden]", "text": "with [hidden]", "list": ["[hidden]", 1]},
        "n": 1.5,
    }
    assert table["a"]["text"] == "with hunter2"
