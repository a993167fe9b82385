"""Users of the configuration as the core wants them: clients' users and leaves' users, permissions, credentials."""

import dataclasses
from typing import Any

from leafnode.base import nuid
from leafnode.config.options import GLOBAL_ACCOUNT, Config, LeafUser, PermissionsConfig, UserConfig
from leafnode.net import secrets
from leafnode.net.leaf_listener import Admission
from leafnode.route.account import Account
from leafnode.route.auth import Arrival, Authenticator, User
from leafnode.route.certificate import user_of_certificate
from leafnode.route.gate import Guest
from leafnode.route.permissions import Permissions, Responses
from leafnode.route.verdict import Verdict


def authenticator(config: Config) -> Authenticator:
    """Who may connect as a client. Raises ConfigError where a library is missing."""
    rules = config.authorization
    users = [user_of(GLOBAL_ACCOUNT, user, rules.default_permissions) for user in rules.users]
    if rules.user:
        users.append(User(name=rules.user, password=rules.password))
    for account in config.accounts.values():
        users += [user_of(account.name, user, account.default_permissions) for user in account.users]
    no_auth_user = config.no_auth_user
    if users and not (no_auth_user or rules.is_required) and all(u.account == config.system_account for u in users):
        guest = User(
            name=nuid.new(), password=nuid.new()
        )  # with users of the system account only, others need not log in
        users.append(guest)
        no_auth_user = guest.name
    return _authenticator(users, token=rules.token, no_auth_user=no_auth_user)


def websocket_authenticator(config: Config) -> Authenticator | None:
    """Who may connect as a websocket client; None: whoever may as a client. Raises ConfigError like `authenticator`."""
    rules, own = config.websocket, config.websocket.authorization
    if own.is_required:
        users = [User(name=own.user, password=own.password)] if own.user else []
        return _authenticator(users, token=own.token)
    if rules.no_auth_user:
        return dataclasses.replace(authenticator(config), no_auth_user=rules.no_auth_user)
    return None


def _authenticator(users: list[User], *, token: str = "", no_auth_user: str = "") -> Authenticator:
    if any(user.password.startswith("$2") for user in users) or token.startswith("$2"):
        secrets.require_bcrypt()
    return Authenticator(
        users=tuple(users),
        token=token,
        no_auth_user=no_auth_user,
        check_hash=secrets.check_hash,
        check_signature=secrets.check_signature,
    )


def user_of(account: str, user: UserConfig, default: PermissionsConfig | None) -> User:
    rules = user.permissions or default
    return User(
        name=user.user,
        password=user.password,
        nkey=user.nkey,
        account=account,
        permissions=permissions_of(rules) if rules else None,
        arrivals=user.connection_types,
    )


def permissions_of(rules: PermissionsConfig) -> Permissions:
    responses = rules.responses
    return Permissions(
        publish_allow=encoded(rules.publish.allow),
        publish_deny=encoded(rules.publish.deny),
        subscribe_allow=encoded(rules.subscribe.allow),
        subscribe_deny=encoded(rules.subscribe.deny),
        responses=Responses(responses.max_msgs, int(responses.expires_s * 1e9)) if responses else None,
    )


def encoded(subjects: tuple[str, ...] | None) -> tuple[bytes, ...]:
    return tuple(subject.encode() for subject in subjects or ())


def leaf_admission(config: Config, accounts: dict[str, Account], clients: Authenticator | None = None) -> Admission:
    """Who may link as a leaf: users of the listener's own block, or else whoever may connect as a client: `clients`, or
    the configuration's.

    Raises ConfigError where a library is missing.
    """
    rules = config.leafnodes.authorization
    alone: list[LeafUser] = []
    if rules is None:
        known, home = clients or authenticator(config), ""
    else:
        single = rules.single
        alone = [single] if single is not None and (single.user or single.nkey) else []
        known = _authenticator([_leaf_user(user) for user in (*alone, *rules.users)])
        home = single.account if single is not None and not alone else ""

    def guest_of(user: User) -> Guest | None:
        account = accounts.get(home or user.account)
        return Guest(account, user.permissions, user) if account is not None else None

    tls = config.leafnodes.tls
    is_mapped = tls is not None and tls.verify_and_map and not alone

    def admit(options: dict[str, Any], nonce: bytes, arrival: Arrival) -> Guest | Verdict[Guest] | None:
        user: User | Verdict[User] | None
        if is_mapped and known.users:
            user = user_of_certificate(arrival.certificate or {}, known.users)
        else:
            user = known.authenticate(options, nonce, arrival)
        if isinstance(user, Verdict):
            return user.turned(guest_of)
        return guest_of(user) if user is not None else None

    return admit


def _leaf_user(user: LeafUser) -> User:
    return User(name=user.user, password=user.password, nkey=user.nkey, account=user.account)
