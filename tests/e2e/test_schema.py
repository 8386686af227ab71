"""`spooldadd schema`: what editors use says the same as the check."""

from __future__ import annotations

import json


def test_the_schema_of_a_spec_knows_its_keys(node):
    schema = json.loads(node.run("schema").stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"command", "queue", "limits", "retry"} <= schema["properties"].keys()
    assert schema["required"] == ["command"]


def test_the_schema_of_the_configuration_knows_its_keys(node):
    schema = json.loads(node.run("schema", "config").stdout)
    assert {"node", "jobs", "queues", "intake"} <= schema["properties"].keys()
