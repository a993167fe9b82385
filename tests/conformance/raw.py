"""The protocol by hand: bytes out, bytes in, up to a mark."""

import socket


class Wire:
    """One TCP connection to a broker."""

    def __init__(self, port: int, timeout: float = 5.0, *, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.info = self.until(b"\r\n")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def until(self, mark: bytes) -> bytes:
        """Everything up to and including the mark."""
        seen = b""
        while not seen.endswith(mark):
            byte = self.socket.recv(1)
            if not byte:
                raise EOFError(seen)
            seen += byte
        return seen

    def rest(self) -> bytes:
        """Everything until the other side closes."""
        seen = b""
        while True:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return seen
            if not data:
                return seen
            seen += data

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
