"""Every exception the broker raises on purpose.

LeafnodeError
    ProtocolError        the peer broke the protocol: send the text, close the connection
    ConfigError          the configuration cannot be used: refuse to start
    TrustError           a JWT, or who shows it, is not trusted: turn the client away
    StoreError           the store failed: stop acknowledging
        DamagedError     the file is damaged: salvage what can be read, then go on
    ApiError             a JetStream API request failed: answer with its code
"""


class LeafnodeError(Exception):
    """Base of everything below."""


class ProtocolError(LeafnodeError):
    """The peer broke the protocol and the connection must close.

    `text` goes out as -ERR first, unless it is empty: some violations close without a word
    (docs/protocols.md, spec client-protocol section 8).
    """

    def __init__(self, text: str = "", reason: str = "Protocol Violation") -> None:
        super().__init__(text or reason)
        self.text = text
        self.reason = reason


class ConfigError(LeafnodeError):
    """Says what is wrong, in which file and line, and what to write instead."""


class TrustError(LeafnodeError):
    """A JWT, or who shows it, is not trusted. The text is for the log; it holds no token."""


class StoreError(LeafnodeError):
    """The disk did not take it. Nothing of the batch was kept."""


class DamagedError(StoreError):
    """What the disk gives back is not what was written. The text says where that was found."""


class ApiError(LeafnodeError):
    """Answer to a JetStream API request: HTTP-like code, nats-server's err_code, text."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} ({code}/{err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description
