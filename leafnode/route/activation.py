"""Activation tokens: an exporter's signed word that one account may import what is not for everybody. Pure.

    exporter (or one of its signing keys)  --signs-->  activation {sub: importer, nats: {subject, kind}}

The token stands in the importer's own JWT; the exporter takes it back by a revocation in its export. Source: spec auth
section 4.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from leafnode.errors import TrustError
from leafnode.route.jwt import Token
from leafnode.route.subject import is_subset

ANYBODY = "*"


class Wish(NamedTuple):
    """What somebody wants to import."""

    importer: str
    exporter: str
    kind: str
    """`stream` or `service`."""
    subject: str
    """As the exporter calls it."""


def check_activation(
    token: Token,
    wish: Wish,
    *,
    is_signer: Callable[[str], bool],
    revocations: Iterable[tuple[str, int]],
    now_s: float,
) -> int:
    """Until when (s) a genuine token allows a wish; 0: for ever.

    `is_signer(key)`: whether it is a signing key of the exporter. `revocations`: of the export, importer or `*` and the
    time until which tokens were issued that no longer hold.

    Raises:
        TrustError: it does not, and why.
    """
    body = token.body
    behalf = str(body.get("issuer_account", ""))
    if wish.exporter not in (token.issuer, behalf) or (behalf and not is_signer(token.issuer)):
        raise TrustError(f"the activation is not by account {wish.exporter} or a signing key of it")
    if token.subject != wish.importer:
        raise TrustError("the activation is for another account")
    if body.get("kind") != wish.kind:
        raise TrustError(f"the activation is not for a {wish.kind}")
    if not is_subset(wish.subject.encode(), str(body.get("subject", "")).encode()):
        raise TrustError(f"the activation is for {body.get('subject')!r}")
    token.check_time(now_s)
    if any(key in (wish.importer, ANYBODY) and token.issued_s <= until_s for key, until_s in revocations):
        raise TrustError("the activation is revoked")
    return token.expires_s
