import os

import pytest

from spooldadd import record
from spooldadd.config.capacity import default_memory_bytes
from spooldadd.errors import ClaimLost
from spooldadd.placement import NOTHING, Needs
from spooldadd.usage import NoRoom, Usage
from tests.unit.spools import HERE, Bench

CAPACITY = Needs(4000, 2**33, 2)
ONE_GPU = Needs(500, 2**30, 1)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def usage(bench):
    return Usage(bench.places, HERE.node, CAPACITY)


def claim(bench, name, needs=ONE_GPU):
    bench.drop(name)
    with usage(bench).taking(needs) as taken:
        return bench.spool.claim_drop(name, "a", "default", taken.table()), taken


def test_what_a_claim_takes_stands_in_it_and_is_counted_by_any_worker_of_the_node(bench):
    claimed, taken = claim(bench, "a.toml")
    assert taken.gpus == (0,)
    table = record.read_claim(claimed.path, 1)
    assert (table["cpus"], table["memory_bytes"], table["gpus"]) == (0.5, 2**30, ["0"])
    assert usage(bench).free() == CAPACITY.minus(ONE_GPU)


def test_jobs_get_gpus_of_their_own(bench):
    assert [claim(bench, name)[1].gpus for name in ("a.toml", "b.toml")] == [(0,), (1,)]
    with pytest.raises(NoRoom):
        claim(bench, "c.toml")


def test_what_has_ended_gives_its_gpu_back(bench):
    claimed, _ = claim(bench, "a.toml")
    claim(bench, "b.toml")
    record.write_result(claimed.path, {"attempt": 1, "state": "done"}, sync=False)
    bench.spool.file(claimed.record, claimed.lease, "done")
    assert claim(bench, "c.toml")[1].gpus == (0,)


def test_a_claim_that_came_to_nothing_takes_nothing(bench):
    account = usage(bench)
    with pytest.raises(ClaimLost), account.taking(ONE_GPU) as taken:
        bench.spool.claim_drop("gone.toml", "a", "default", taken.table())
    assert account.free() == CAPACITY


def test_jobs_of_another_node_take_nothing_here(bench):
    claimed, _ = claim(bench, "a.toml")
    assert Usage(bench.places, "elsewhere", CAPACITY).free() == CAPACITY
    os.close(claimed.lease)


def test_a_job_that_needs_nothing_takes_no_lock_and_notes_nothing(bench):
    account = usage(bench)
    with account.taking(NOTHING) as taken:
        assert taken.table() == {}
    assert bench.locks() == []


def test_two_workers_of_a_node_do_not_count_at_once(bench):
    with usage(bench).taking(ONE_GPU), pytest.raises(NoRoom, match="another worker"), usage(bench).taking(ONE_GPU):
        pass


# -- what there is


def files(**found):
    return lambda path: found.get(path.replace("/", "_"), "")


MACHINE = {"_proc_meminfo": "MemTotal:        8388608 kB\nMemFree: 1 kB\n"}


def test_the_memory_is_the_machines():
    assert default_memory_bytes(files(**MACHINE)) == 2**33


def test_the_least_that_a_control_group_leaves_counts():
    found = {"_proc_self_cgroup": "0::/a/b\n", "_sys_fs_cgroup_a_b_memory.max": "max\n"}
    found |= {"_sys_fs_cgroup_a_memory.max": f"{2**31}\n", "_sys_fs_cgroup_memory.max": f"{2**32}\n"}
    assert default_memory_bytes(files(**MACHINE, **found)) == 2**31


def test_the_older_control_groups_count_too():
    found = {"_proc_self_cgroup": "5:cpu,cpuacct:/x\n4:memory:/x\n"}
    found |= {"_sys_fs_cgroup_memory_x_memory.limit_in_bytes": f"{2**30}\n"}
    assert default_memory_bytes(files(**MACHINE, **found)) == 2**30


def test_where_nothing_says_how_much_there_is_a_gigabyte_is_assumed():
    assert default_memory_bytes(files()) == 2**30
