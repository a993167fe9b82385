"""What no single key can tell: whether the parts of a configuration fit together. Pure.

nats-server finds some of these only when it starts; here `-t` finds them all.
"""

from collections.abc import Iterator

from leafnode.config import sharing
from leafnode.config.options import (
    GLOBAL_ACCOUNT,
    SYSTEM_ACCOUNT,
    Config,
    LeafRemote,
)
from leafnode.errors import ConfigError
from leafnode.route.subject import is_valid
from leafnode.route.transform import Transform, TransformError

NKEY_LENGTH = 56  # characters of a public key
LAME_DUCK_LEAST_S = 30.0  # nats-server's minimum: shorter, clients reconnect in a herd


def check(config: Config) -> None:
    """Return if the configuration can be used.

    Raises:
        ConfigError: names the first contradiction.
    """
    for problem in _problems(config):
        raise ConfigError(problem)


def _problems(config: Config) -> Iterator[str]:
    yield from _names(config)
    yield from _limits(config)
    yield from _operators(config)
    yield from _users(config)
    yield from _account_references(config)
    yield from _remotes(config)
    yield from _mappings(config)
    yield from _forwards(config)
    yield from sharing.problems(config.accounts)


def _names(config: Config) -> Iterator[str]:
    for key, name in (("server_name", config.server_name), ("jetstream domain", config.jetstream.domain)):
        if any(char.isspace() for char in name):
            yield f"{key} cannot contain spaces: {name!r}"
    if any(char in config.jetstream.domain for char in ".*>"):
        yield f"jetstream domain {config.jetstream.domain!r} cannot contain '.', '*' or '>': it is a token of subjects"


def _limits(config: Config) -> Iterator[str]:
    if config.max_payload > config.max_pending:
        yield f"max_payload ({config.max_payload}) cannot be higher than max_pending ({config.max_pending})"
    if config.lame_duck_duration_s < LAME_DUCK_LEAST_S:
        yield f"invalid lame_duck_duration of {config.lame_duck_duration_s:g}s, minimum is 30 seconds"
    if config.http_port is not None and config.https_port is not None:
        yield f"can't specify both HTTP ({config.http_port}) and HTTPS ({config.https_port}) ports: keep one of them"
    if config.https_port is not None and config.tls is None:
        yield "https needs the certificate of a top-level 'tls' block"
    if config.lame_duck_grace_s >= config.lame_duck_duration_s:
        yield "lame_duck_grace_period must be shorter than lame_duck_duration"


def _users(config: Config) -> Iterator[str]:
    single = config.authorization
    if config.accounts and any(account.users for account in config.accounts.values()):
        if single.user:
            yield "Can not have a single user/pass and accounts: move the user into an account"
        if single.token:
            yield "Can not have a token and accounts: keep one of them"
    seen = set()
    for _, user in config.users():
        name = user.nkey or user.user
        if name in seen:
            yield f"Duplicate user {name!r} detected: users are unique over all accounts"
        seen.add(name)
    yield from _callout(config, seen)
    if config.no_auth_user and config.no_auth_user not in seen and not config.operators:
        yield f"no_auth_user {config.no_auth_user!r} is not a user: add it to 'users' of an account or of authorization"
    yield from _websocket(config, seen)


def _callout(config: Config, users: set[str]) -> Iterator[str]:
    rules = config.authorization.callout
    if rules is None:
        return
    if rules.account not in account_names(config):
        yield f"auth_callout: account {rules.account!r} is not defined: add it to 'accounts'"
    for name in rules.allowed_accounts:
        if name not in account_names(config):
            yield f"auth_callout allowed account {name!r} not found in configured accounts"
    for name in rules.auth_users:
        if name not in users and name != config.authorization.user:
            yield f"auth_callout: {name!r} of auth_users is not a user: add it to 'users' of account {rules.account!r}"


def _websocket(config: Config, users: set[str]) -> Iterator[str]:
    rules = config.websocket
    if rules.no_auth_user and rules.no_auth_user not in users and not config.operators:
        yield f"websocket no_auth_user {rules.no_auth_user!r} not present as user: add it to 'users'"
    if rules.jwt_cookie and not (config.operators or config.trusted_keys):
        yield "trusted operators or trusted keys configuration is required for JWT authentication via cookie"


def _operators(config: Config) -> Iterator[str]:
    if not config.is_operated:
        if config.default_sentinel:
            yield "default_sentinel requires operators and accounts"
        if config.resolver_preload and config.resolver is None:
            yield "resolver_preload needs a resolver and an operator: add 'operator' and 'resolver: MEMORY'"
        return
    if config.resolver is None and not config.operators:  # an operator's JWT may name one
        yield "trusted_keys require an account resolver to be configured: add 'resolver: MEMORY' or a resolver block"
    if config.resolver is not None and config.resolver.kind == "url" and config.resolver_preload:
        yield "resolver_preload is for resolvers of type memory, full and cache: with URL(…) JWTs are on the web server"
    if config.accounts:
        yield "operators do not allow Accounts to be configured directly: they come as JWTs"
    if config.authorization.callout is not None:
        yield "operators do not allow authorization callouts to be configured directly: they come in account JWTs"
    if config.authorization.is_required:
        yield "operators do not allow users to be configured directly: they come as JWTs"
    if config.trusted_keys and config.operators:
        yield "conflicting options for 'trusted_keys' and 'operator': keep one of them"
    for key in config.trusted_keys:
        if not (key.startswith("O") and len(key) == NKEY_LENGTH):
            yield f"trusted_keys: {key!r} is not an operator's public key (O…)"
    for remote in config.leafnodes.remotes:
        if not (remote.account.startswith("A") and len(remote.account) == NKEY_LENGTH):
            yield "operator mode requires account nkeys in remotes: add 'account: A…' to each leafnode remote"


def account_names(config: Config) -> set[str]:
    """Accounts that exist: the configured ones and those that always do."""
    return {GLOBAL_ACCOUNT, SYSTEM_ACCOUNT, config.system_account, *config.accounts}


def _account_references(config: Config) -> Iterator[str]:
    if config.operators or config.resolver:
        return  # names are ids of accounts that a resolver knows
    if config.system_account != SYSTEM_ACCOUNT and config.system_account not in config.accounts:
        yield f"system_account {config.system_account!r} is not defined: add it to 'accounts'"
    known = account_names(config)
    for name, domain in config.default_js_domain.items():
        if any(char in domain for char in ".*> \t"):
            yield f"default_js_domain of {name!r}: {domain!r} is no domain: it is a token of subjects"
    for remote in config.leafnodes.remotes:
        if remote.account not in known:
            yield f"cannot find local account {remote.account!r} specified in leafnode remote: add it to 'accounts'"
    access = config.leafnodes.authorization
    for user in [*([access.single] if access and access.single else []), *(access.users if access else ())]:
        if user.account not in known:
            yield f"cannot find account {user.account!r} of a leafnode user: add it to 'accounts'"


def _remotes(config: Config) -> Iterator[str]:
    seen: set[tuple[str, ...]] = set()
    for remote in config.leafnodes.remotes:
        urls = [str(url) for url in remote.urls]
        mark = (remote.account, *sorted(urls))
        if mark in seen:
            yield f"duplicate remote urls={urls}, account={remote.account!r}"
        seen.add(mark)
        yield from _remote_urls(remote)


def _remote_urls(remote: LeafRemote) -> Iterator[str]:
    if len({url.is_websocket for url in remote.urls}) > 1:
        yield "a remote's urls cannot mix websocket (ws, wss) and plain ones: make two remotes"
    if any(not 0 < url.port <= 65535 for url in remote.urls):
        yield "a remote's url needs a port from 1 to 65535"


def _forwards(config: Config) -> Iterator[str]:
    for forward in config.forwards:
        where = f"forward {forward.name!r}"
        account = config.accounts.get(forward.account)
        alone = not config.accounts.keys() - {config.system_account} and forward.account == GLOBAL_ACCOUNT
        if not config.jetstream.enabled:
            yield f"{where} needs jetstream: enable it"
        elif not config.is_operated and not alone and (account is None or account.jetstream is None):
            yield f"{where}: account {forward.account!r} has no JetStream: enable it there, or name another account"
        if not any(remote.account == forward.account for remote in config.leafnodes.remotes):
            yield f"{where} has no way to the hub: add a remote with account {forward.account!r} to leafnodes"
        if forward.to.domain == config.jetstream.domain:
            yield f"{where}: the hub's domain {forward.to.domain!r} is our own: each JetStream needs its own domain"


def _mappings(config: Config) -> Iterator[str]:
    for mapping in (*config.mappings, *(one for account in config.accounts.values() for one in account.mappings)):
        if not is_valid(mapping.source.encode()):
            yield f"mappings: subject {mapping.source!r} is not a valid subject"
        for destination in mapping.destinations:
            problem = _unfit(mapping.source, destination.subject)
            if problem:
                yield f'Error adding mapping for "{mapping.source}" to "{destination.subject}" : {problem}'


def _unfit(source: str, destination: str) -> str:
    """Why there is no transform from source to destination; empty: there is."""
    try:
        Transform(source, destination)
    except TransformError as error:
        return str(error)
    return "" if destination else "invalid mapping destination: it is empty"
