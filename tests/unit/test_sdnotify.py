"""One datagram a message, to whoever listens; nobody has to."""

import socket

from spooldadd import sdnotify


def listening(address):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.settimeout(10)
    return sock


def test_a_message_arrives_at_a_path(tmp_path):
    path = str(tmp_path / "notify")
    with listening(path) as sock:
        assert sdnotify.of_environ({"NOTIFY_SOCKET": path}, 1).send("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_a_message_arrives_at_an_abstract_address(tmp_path):
    with listening(f"\0{tmp_path}") as sock:
        assert sdnotify.of_environ({"NOTIFY_SOCKET": f"@{tmp_path}"}, 1).send("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_a_manager_that_went_away_or_is_deaf_is_told_of_and_stops_nobody(tmp_path):
    path = str(tmp_path / "notify")
    manager = sdnotify.of_environ({"NOTIFY_SOCKET": path}, 1)
    assert not manager.send("READY=1")
    with listening(path):
        while manager.send("STATUS=filling the queue"):
            pass  # a queue that is full makes nobody wait


def test_without_a_manager_nothing_is_said():
    manager = sdnotify.of_environ({}, 1)
    assert manager.send("READY=1")
    assert not manager.is_there


def test_an_address_that_is_no_local_socket_is_left_alone():
    assert not sdnotify.of_environ({"NOTIFY_SOCKET": "vsock:2:1234"}, 1).is_there


def test_a_watchdog_counts_where_it_is_meant_for_this_process():
    def watchdog_s(**environ):
        return sdnotify.of_environ({"NOTIFY_SOCKET": "/x", **environ}, 7).watchdog_s

    assert watchdog_s(WATCHDOG_USEC="1500000") == 1.5
    assert watchdog_s(WATCHDOG_USEC="1500000", WATCHDOG_PID="7") == 1.5
    assert watchdog_s(WATCHDOG_USEC="1500000", WATCHDOG_PID="8") is None
    assert watchdog_s(WATCHDOG_USEC="soon") is None
    assert watchdog_s() is None


def test_a_reload_carries_the_time_and_a_status_is_one_line(tmp_path):
    path = str(tmp_path / "notify")
    with listening(path) as sock:
        manager = sdnotify.of_environ({"NOTIFY_SOCKET": path}, 1)
        manager.reloading()
        first, second = sock.recv(200).decode().splitlines()
        assert first == "RELOADING=1"
        assert second.removeprefix("MONOTONIC_USEC=").isdigit()
    assert sdnotify.status("two\nlines") == "STATUS=two lines"
