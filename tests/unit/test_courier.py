"""When a worker's courier is started."""

from types import SimpleNamespace

from spooldadd.config import Config
from spooldadd.remote import courier
from tests.travelling import make_record, make_spool, quiet_log


def test_a_mark_that_a_person_removed_is_noticed_without_another_job(tmp_path, monkeypatch):
    started = []

    def start(command, **_options):
        started.append(command)
        return SimpleNamespace(poll=lambda: 0, returncode=0)

    monkeypatch.setattr(courier.subprocess, "Popen", start)
    places = make_spool(tmp_path / "node")
    sent = make_record(places, "failed") / "uploaded.toml"
    sent.touch()
    spool = SimpleNamespace(places=places, holder=SimpleNamespace(node="n1"))
    one = courier.Courier(spool, Config.model_validate({"master": {"target": str(tmp_path)}}), quiet_log(), [])
    for now in range(1, 100):
        one.turn(float(now))
    assert len(started) == 1, "nothing has changed"
    sent.unlink()
    for now in range(100, 2 * int(courier.ALL_S)):
        one.turn(float(now))
    assert len(started) == 2
