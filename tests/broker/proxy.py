"""A TCP proxy before one broker, which can lose, hold back and cut: the network's faults, on demand.

Stands between the log and the broker. It reads the frames a client sends (size, API key, API version, …) and passes
answers through untouched; what it holds back can be delivered later, when the client has long gone on.
"""

import socket
import struct
import threading
from dataclasses import dataclass, field

from tests.broker.ports import PortLease

END_TXN = 26
"""API key of the request that commits or aborts a transaction."""
_HEAD = struct.Struct(">ihh")  # size of what follows it, API key, API version


@dataclass(slots=True, eq=False)
class HeldFrame:
    """A request singled out by the proxy: first awaited, then in hand (or sent on at once, its answer lost).

    The connection it came on is cut on the client's side and stays open towards the broker, as when a router dies.
    """

    api_key: int
    sent_at_once: bool = False
    then_silent: bool = False
    version: int = -1
    _frame: bytes = b""
    _upstream: socket.socket | None = None
    _caught: threading.Event = field(default_factory=threading.Event)

    def wait(self, timeout_s: float = 30.0) -> None:
        """Wait until a client has sent such a request.

        Raises:
            TimeoutError: none came.
        """
        if not self._caught.wait(timeout_s):
            raise TimeoutError(f"no client sent a request with API key {self.api_key} within {timeout_s} s")

    @property
    def caught(self) -> bool:
        """Whether the frame is in hand."""
        return self._caught.is_set()

    def deliver(self) -> None:
        """Send the frame to the broker now, late, on the connection it was meant for.

        Raises:
            RuntimeError: nothing was caught yet, or it was delivered or dropped already.
        """
        if self._upstream is None:
            raise RuntimeError("there is no frame in hand: wait() first, and deliver only once")
        self._upstream.sendall(self._frame)
        self._upstream = None

    def catch(self, version: int, frame: bytes, upstream: socket.socket) -> None:
        """Take the frame in hand (called by the proxy)."""
        self.version, self._frame, self._upstream = version, frame, upstream
        if self.sent_at_once:
            self.deliver()
        self._caught.set()


class TcpProxy:
    """Listens on a loopback port of its own choosing and forwards to one broker.

    Args:
        upstream_host: where the broker listens.
        upstream_port: its port there; the broker must advertise `port`, the proxy's, on that listener.

    Example:
        held = proxy.hold(END_TXN)          # the next commit's request never arrives …
        producer.commit_transaction()
        held.deliver()                      # … until now
    """

    def __init__(self, upstream_host: str, upstream_port: int) -> None:
        self._upstream_address = (upstream_host, upstream_port)
        self._lease = PortLease.take()
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._holds: list[HeldFrame] = []
        self._requests_seen: dict[int, int] = {}
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = False
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self._lease.port))
        self._listener.listen(64)
        self._acceptor = threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True)
        self._acceptor.start()

    @property
    def port(self) -> int:
        """Where clients connect, on 127.0.0.1."""
        return self._lease.port

    def requests_seen(self, api_key: int) -> int:
        """How many requests with this API key clients have sent so far, held ones included."""
        with self._lock:
            return self._requests_seen.get(api_key, 0)

    def hold(self, api_key: int, *, then_silent: bool = False) -> HeldFrame:
        """Hold back the next request with this API key, and cut its client's connection at that moment.

        Args:
            then_silent: a blackhole from before the cut, so that the client cannot send it again and be answered first.
        """
        return self._single_out(HeldFrame(api_key, then_silent=then_silent))

    def lose_answer(self, api_key: int) -> HeldFrame:
        """Pass on the next request with this API key, but cut its client's connection before the answer arrives."""
        return self._single_out(HeldFrame(api_key, sent_at_once=True))

    def let_go(self, held: HeldFrame) -> None:
        """Do not wait for this request any more; harmless when it was caught already."""
        with self._lock:
            if held in self._holds:
                self._holds.remove(held)

    def cut(self) -> int:
        """Cut all connections now, on both sides; returns how many. New ones are accepted at once."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.cut()
        return len(connections)

    def blackhole(self) -> None:
        """From now on no byte passes in either direction, while connections stay up and new ones are accepted."""
        self._flowing.clear()

    def heal(self) -> None:
        """End a blackhole; what was sent meanwhile arrives now."""
        self._flowing.set()

    def close(self) -> None:
        """Cut everything and stop listening."""
        self._closed = True
        self._flowing.set()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # some systems refuse this on a listening socket, and wake the thread by close alone
        self._listener.close()
        self._acceptor.join()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.cut()
            connection.join()
        self._lease.release()

    def wait_flowing(self) -> None:
        """Block during a blackhole (called by the connections' threads)."""
        self._flowing.wait()

    def holder_of(self, api_key: int) -> HeldFrame | None:
        """Count a request; return who wants to hold it back, if anybody (called by the connections' threads)."""
        with self._lock:
            self._requests_seen[api_key] = self._requests_seen.get(api_key, 0) + 1
            for held in self._holds:
                if held.api_key == api_key:
                    self._holds.remove(held)
                    return held
        return None

    def forget(self, connection: "_Connection") -> None:
        """A connection has ended (called by its threads)."""
        with self._lock:
            self._connections.discard(connection)

    def _single_out(self, held: HeldFrame) -> HeldFrame:
        with self._lock:
            self._holds.append(held)
        return held

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                upstream = socket.create_connection(self._upstream_address, timeout=5)
            except OSError:
                client.close()  # the broker is down: so is its proxy's connection
                continue
            upstream.settimeout(None)
            connection = _Connection(self, client, upstream)
            with self._lock:
                self._connections.add(connection)
                connection.start()  # within the lock: whoever closes the proxy joins these threads


class _Connection:
    """One client connection and its twin to the broker, pumped by a thread in each direction."""

    def __init__(self, proxy: TcpProxy, client: socket.socket, upstream: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._upstream = upstream
        self._keeps_upstream = False  # a frame of this connection is held: its way to the broker must stay open
        self._requests = threading.Thread(target=self._pump_requests, name=f"proxy-{proxy.port}-requests", daemon=True)
        self._answers = threading.Thread(target=self._pump_answers, name=f"proxy-{proxy.port}-answers", daemon=True)
        for end in (client, upstream):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Begin to pump."""
        self._requests.start()
        self._answers.start()  # second: it joins the other one

    def cut(self) -> None:
        """Let both sides see a closed connection, which ends the pumps."""
        self._keeps_upstream = False
        _shut(self._client)
        _shut(self._upstream)

    def join(self) -> None:
        """Wait until the sockets are closed."""
        self._answers.join()

    def _pump_requests(self) -> None:
        pending = bytearray()
        try:
            while received := self._client.recv(65536):
                self._proxy.wait_flowing()
                pending += received
                if not self._forward_frames(pending):
                    break
        except OSError:
            pass  # cut from either side: the end of this connection, as its closing is
        _shut(self._client)
        if not self._keeps_upstream:
            _shut(self._upstream)

    def _forward_frames(self, pending: bytearray) -> bool:
        """Send every whole frame on; False once one was held back."""
        while len(pending) >= _HEAD.size:
            size, api_key, version = _HEAD.unpack_from(pending)
            if len(pending) < 4 + size:
                return True
            frame = bytes(pending[: 4 + size])
            del pending[: 4 + size]
            held = self._proxy.holder_of(api_key)
            if held is not None:
                self._keeps_upstream = True
                if held.then_silent:
                    self._proxy.blackhole()
                _shut(self._client)
                held.catch(version, frame, self._upstream)
                return False
            self._upstream.sendall(frame)
        return True

    def _pump_answers(self) -> None:
        """Pass answers on until the broker's side ends; then, being the last to need them, close both sockets."""
        try:
            while received := self._upstream.recv(65536):
                self._proxy.wait_flowing()
                if not self._keeps_upstream:
                    self._client.sendall(received)
        except OSError:
            pass  # cut from either side
        if self._keeps_upstream:
            self._drain()
        _shut(self._client)
        _shut(self._upstream)
        self._requests.join()
        self._client.close()
        self._upstream.close()
        self._proxy.forget(self)

    def _drain(self) -> None:
        """The client was cut while an answer was on its way to it: swallow this and all further answers."""
        try:
            while self._upstream.recv(65536):
                pass
        except OSError:
            pass  # cut by the broker


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # shut already
