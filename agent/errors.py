"""Every exception that agent and CLI raise on purpose.

FleetError
    UsageError           the person or program asked for something impossible: say what and how to ask instead
    ConfigError          a settings file cannot be used: names file, key and remedy
    PayloadError         a message body is not what its subject promises
    QueryError           a query expression cannot be evaluated: carries the device's own words
    ConnectionFailed     the broker cannot be reached or refuses us
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
