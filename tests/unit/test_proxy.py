import socket
import threading
import time

import pytest

from jobs.testing.proxy import Fault, running_proxy


@pytest.fixture
def echoing():
    """A client's connection through a proxy to a server that sends back what it gets."""

    def echo(connection):
        with connection:
            while data := connection.recv(1024):
                connection.sendall(data)

    def serve(listener):
        try:
            while True:
                threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            return

    with socket.create_server(("127.0.0.1", 0)) as listener, running_proxy() as proxy:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        proxy.target_port = listener.getsockname()[1]
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)


def connect(proxy):
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=1)
    client.sendall(b"a")
    assert client.recv(1) == b"a"
    return client


@pytest.mark.parametrize(
    ("fault", "seen"), [(Fault.CUT, None), (Fault.RESET, ConnectionResetError), (Fault.SILENCE, TimeoutError)]
)
def test_open_connection_is_met_and_the_next_one_is_served(echoing, fault, seen):
    with connect(echoing) as client:
        echoing.arm(fault, after_bytes=1)
        client.sendall(b"b")
        if seen is None:
            assert client.recv(1) == b""
        else:
            with pytest.raises(seen):
                client.recv(1)
    assert echoing.struck == 1
    connect(echoing).close()


def test_delay_holds_bytes_back_and_loses_none(echoing, monkeypatch):
    monkeypatch.setattr("jobs.testing.proxy._DELAY_SECONDS", 0.5)
    with connect(echoing) as client:
        echoing.arm(Fault.DELAY, after_bytes=1)
        began = time.monotonic()
        client.sendall(b"b")
        assert client.recv(1) == b"b"
        assert time.monotonic() - began > 0.4
