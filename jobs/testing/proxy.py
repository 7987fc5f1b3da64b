"""A TCP proxy on loopback that does to connections what networks do: it cuts, resets, delays, or swallows them.

As the advertised listener of a broker it stands between the broker and all of its clients.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

_CHUNK_BYTES = 65_536
_DELAY_SECONDS = 5.0
_NO_LINGER = struct.pack("ii", 1, 0)


class Fault(StrEnum):
    """What happens to all connections that are open at a moment; later ones are served."""

    CUT = "cut"
    """Closed in order, in the middle of an answer."""
    RESET = "reset"
    """Closed by RST."""
    DELAY = "delay"
    """Nothing passes for five seconds, and then all of it."""
    SILENCE = "silence"
    """Half open: they stay, take bytes, and hand none over ever again."""


@dataclass(slots=True)
class _Link:
    client: socket.socket
    server: socket.socket
    is_silent: bool = False
    is_reset: bool = False
    held_until: float = 0.0


@dataclass(slots=True)
class Proxy:
    """Forwards to `target_port` once that is set; `arm` brings one fault about."""

    listener: socket.socket
    target_port: int = 0
    struck: int = 0
    """Connections that a fault has met."""
    _links: list[_Link] = field(default_factory=list)
    _armed: tuple[int, Fault] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def port(self) -> int:
        """Where clients connect."""
        return int(self.listener.getsockname()[1])

    def arm(self, fault: Fault, after_bytes: int) -> None:
        """Strike once, when clients have been sent so many bytes from now on."""
        self.struck, self._armed = 0, (after_bytes, fault)

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                self._connect(self.listener.accept()[0])

    def close(self) -> None:
        """End all connections, and take no more."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for link in self._links:
            _end(link)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port))
        except OSError:
            client.close()
            return
        link = _Link(client, server)
        self._links.append(link)
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(link, source, sink), daemon=True).start()

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                if sink is link.client:
                    self._count(len(data))
                time.sleep(max(0.0, link.held_until - time.monotonic()))
                if not link.is_silent:
                    sink.sendall(data)
        if not (link.is_silent or link.is_reset):
            _end(link)

    def _count(self, sent: int) -> None:
        with self._lock:
            if self._armed is None:
                return
            left, fault = self._armed[0] - sent, self._armed[1]
            self._armed = (left, fault) if left > 0 else None
            if left <= 0:
                self._strike(fault)

    def _strike(self, fault: Fault) -> None:
        for link in [link for link in self._links if link.client.fileno() >= 0]:
            self.struck += 1
            match fault:
                case Fault.CUT:
                    _end(link)
                case Fault.RESET:
                    _reset(link)
                case Fault.DELAY:
                    link.held_until = time.monotonic() + _DELAY_SECONDS
                case Fault.SILENCE:
                    link.is_silent = True


@contextlib.contextmanager
def running_proxy() -> Iterator[Proxy]:
    """A proxy for the time of the body, on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(listener)
        threading.Thread(target=proxy.serve, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.close()


def _end(link: _Link) -> None:
    for end in (link.client, link.server):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def _reset(link: _Link) -> None:
    """RST goes out when nobody reads from the socket any more: SHUT_RD wakes who does, and sends nothing."""
    link.is_reset = True
    link.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    with contextlib.suppress(OSError):
        link.client.shutdown(socket.SHUT_RD)
    link.client.close()
    with contextlib.suppress(OSError):
        link.server.shutdown(socket.SHUT_RDWR)
    link.server.close()
