"""What the configuration says of operators: whom we trust, where accounts' JWTs are, which account is the system's.

Everything is checked before anything runs, with nats-server's words where it has some.
"""

from pathlib import Path
from typing import NamedTuple

from leafnode.config.options import Config, ResolverConfig
from leafnode.errors import ConfigError, TrustError
from leafnode.identity import SPOKEN_VERSION
from leafnode.net import secrets
from leafnode.route.claims import has_own_rules, user_claims
from leafnode.route.trust import Trust


class Mandate(NamedTuple):
    trust: Trust
    rules: ResolverConfig
    system_account: str
    pinned: frozenset[str]
    """The only accounts that count; empty: all do."""


def mandate_of(config: Config) -> Mandate:
    """Raises ConfigError when operators, keys or accounts make no sense."""
    try:
        texts = map(operator_text, config.operators)
        trust = Trust.of(texts, config.trusted_keys, secrets.check_signature, SPOKEN_VERSION)
    except TrustError as error:
        raise ConfigError(f"operator: {error}") from error
    _check_sentinel(config.default_sentinel)
    rules = _resolver(config, trust)
    system_account = _system_account(config, trust, has_folder=rules.kind in ("full", "cache"))
    pinned = config.resolver_pinned_accounts
    return Mandate(trust, rules, system_account, pinned | {system_account} if pinned else pinned)


def operator_text(given: str) -> str:
    """An operator's JWT, or what the file of that name holds. Raises ConfigError."""
    if given.count(".") == 2 and given.startswith("ey"):
        return given
    try:
        text = Path(given).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"operator: {given!r} is neither a JWT nor a file that can be read") from error
    return next((line.strip() for line in text.splitlines() if line.startswith("ey")), "")


def _resolver(config: Config, trust: Trust) -> ResolverConfig:
    """As configured, or as the operator says. Raises ConfigError."""
    if config.resolver is not None:
        return config.resolver
    if not trust.account_server_url.startswith(("http://", "https://")):
        raise ConfigError("operators require an account resolver to be configured: add 'resolver: MEMORY' or a block")
    return ResolverConfig(kind="url", url=f"{trust.account_server_url.rstrip('/')}/accounts/")


def _system_account(config: Config, trust: Trust, *, has_folder: bool) -> str:
    given = config.system_account if config.system_account.startswith("A") else ""
    if given and trust.system_account and given != trust.system_account:
        raise ConfigError("system_account in config and operator JWT must be identical")
    named = given or trust.system_account
    if has_folder and not named:
        raise ConfigError(
            "using a resolver with a folder, the system account needs to be specified in the configuration or the "
            "operator's JWT: set system_account"
        )
    return named or config.system_account


def _check_sentinel(text: str) -> None:
    """Whether clients without a JWT can become this user. Raises ConfigError."""
    if not text:
        return
    try:
        body = user_claims(text, secrets.check_signature).token.body
    except TrustError as error:
        raise ConfigError(f"default sentinel JWT not valid: {error}") from error
    is_perhaps_scoped = bool(body.get("issuer_account")) and not has_own_rules(body)
    if not body.get("bearer_token") and not is_perhaps_scoped:
        raise ConfigError("default sentinel must be a bearer token")
