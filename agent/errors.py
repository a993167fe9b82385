"""Every exception that agent and CLI raise on purpose.

FleetError
    UsageError           the person or program asked for something impossible: say what and how to ask instead
    ConfigError          a settings file cannot be used: names file, key and remedy
    PayloadError         a message body is not what its subject promises
    QueryError           a query expression cannot be evaluated: carries the device's own words
    ConnectionFailed     the broker cannot be reached or refuses us
    NotAnswered          a request got no answer: nobody listens, or nobody in time
        NotConnected     it was not even sent
    ApiError             JetStream refused: carries code, err_code and the server's description
"""


class FleetError(Exception):
    """Base of everything below; its text is fit to be shown to a person."""


class UsageError(FleetError):
    pass


class ConfigError(FleetError):
    pass


class PayloadError(FleetError):
    pass


class QueryError(FleetError):
    pass


class ConnectionFailed(FleetError):  # noqa: N818 (a state, not a mistake of the caller)
    pass


class NotAnswered(FleetError):  # noqa: N818 (as above)
    pass


class NotConnected(NotAnswered):
    pass


class ApiError(FleetError):
    """JetStream's own refusal; `err_code` is its number in the server's error table, 0 when it gave none."""

    def __init__(self, what: str, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{what}: {description} (code {code}, error {err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description

    @property
    def is_missing(self) -> bool:
        """There is no such stream, consumer, message or key."""
        return self.code == 404

    @property
    def is_conflict(self) -> bool:
        """The expected revision is not the last one."""
        return self.err_code in (10071, 10164)  # JSStreamWrongLastSequence, and its variant without the number
