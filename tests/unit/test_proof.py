import os

import pytest

from spooldadd import proof
from spooldadd.layout import Layout


@pytest.fixture
def places(tmp_path):
    return Layout(str(tmp_path))


def test_each_observer_writes_what_it_saw_in_a_file_of_its_own(places):
    assert proof.locks(places, "a", "b") == "unknown"
    assert proof.note(places, "a", "b", "shared")
    assert proof.note(places, "a", "schema", "private")  # a node may have any name
    assert proof.note(places, "b", "a", "private")
    assert proof.read(places, "a") == {"b": "shared", "schema": "private"}
    assert proof.locks(places, "b", "a") == "private"


def test_what_is_known_already_is_not_written_again(places):
    proof.note(places, "a", "b", "shared")
    path = os.path.join(places.proofs, "a.toml")
    before = os.stat(path).st_ino
    assert not proof.note(places, "a", "b", "shared")
    assert os.stat(path).st_ino == before
    assert proof.note(places, "a", "b", "private")  # the share was mounted anew, with other options
    assert proof.locks(places, "a", "b") == "private"


@pytest.mark.parametrize("text", ["", "peers = 3\n", "[peers]\nb = true\n", "[peers\n", '[peers]\nb = "perhaps"\n'])
def test_a_damaged_file_proves_nothing(places, text):
    os.makedirs(places.proofs)
    with open(os.path.join(places.proofs, "a.toml"), "w") as file:
        file.write(text)
    assert proof.locks(places, "a", "b") == "unknown"
