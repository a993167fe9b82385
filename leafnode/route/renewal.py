"""Who a connected client is after the users of the configuration changed.

A client gave its password once and we did not keep it. So it stays when its user is still there with the same password,
key and account, and is else closed: it may come back and prove itself anew.
"""

from leafnode.route.auth import Authenticator, User


def renewed(user: User, old: Authenticator, new: Authenticator) -> User | None:
    """The user with its rules of now; None: it may not stay."""
    if user not in old.users:
        return _stranger(user, old, new)
    same = next((other for other in new.users if _is_same(user, other)), None)
    if user.name != old.no_auth_user or user.nkey:
        return same
    guest = new.anonymous()  # it may have come without credentials: somebody must still be welcome so
    if guest is None or guest.account != user.account:
        return None
    return same or guest


def _stranger(user: User, old: Authenticator, new: Authenticator) -> User | None:
    """It came by token, or where nobody needed credentials, or in a way that is not in this list."""
    if user.name or user.nkey:
        return user
    if old.token or new.token:
        return user if old.token == new.token else None
    return new.anonymous()


def _is_same(user: User, other: User) -> bool:
    return (user.name, user.nkey, user.password, user.account) == (
        other.name,
        other.nkey,
        other.password,
        other.account,
    )
