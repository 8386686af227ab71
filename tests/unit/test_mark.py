import pytest

from spooldadd import mark
from spooldadd.errors import SpoolError


def test_a_spool_says_its_kind_and_its_nodes(tmp_path):
    mark.create(str(tmp_path), kind="synced", nodes=("alpha", "beta"), durability="process")
    found = mark.read(str(tmp_path))
    assert (found.kind, found.nodes, found.durability) == ("synced", ("alpha", "beta"), "process")


def test_on_the_disk_of_one_machine_a_spool_is_local_unless_told_otherwise(tmp_path):
    mark.create(str(tmp_path / "a"))
    mark.create(str(tmp_path / "b"), kind="shared")
    assert mark.read(str(tmp_path / "a")).kind == "local"
    assert mark.read(str(tmp_path / "b")).kind == "shared"


@pytest.mark.parametrize(("line", "word"), [('kind = "cloud"', "kind"), ('nodes = "a"', "nodes"), ("nodes = [1]", "nodes")])
def test_a_format_that_makes_no_sense_is_refused(tmp_path, line, word):
    mark.create(str(tmp_path))
    with (tmp_path / ".spool" / "format.toml").open("r+") as file:
        kept = [old for old in file.read().splitlines() if not old.startswith(word)]
        file.seek(0)
        file.truncate()
        file.write("\n".join([*kept, line]))
    with pytest.raises(SpoolError, match=word):
        mark.read(str(tmp_path))
