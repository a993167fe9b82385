"""Which user a client certificate stands for: e-mail, DNS name, URI, then the subject (spec auth section 6). Pure.

A certificate comes as `ssl.SSLObject.getpeercert()` gives it. A subject is written as RFC 2253 does, last part first:
`CN=client,O=acme`; a configured one matches in any order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from leafnode.route.auth import User

ALTERNATIVES = ("email", "DNS", "URI")
SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "postalCode": "POSTALCODE",
    "serialNumber": "SERIALNUMBER",
    "domainComponent": "DC",
    "userId": "UID",
    "emailAddress": "EMAILADDRESS",
}
_UNESCAPED_COMMA = re.compile(r"(?<!\\),")
_SPECIAL = re.compile(r'([,+"\\<>;])')


def user_of_certificate(certificate: Mapping[str, Any], users: Sequence[User]) -> User | None:
    """Who needs no password because of the certificate; None: nobody."""
    by_name = {user.name: user for user in users if user.name}
    for name in names(certificate):
        if name in by_name:
            return by_name[name]
    whole = subject(certificate)
    return next((user for name, user in by_name.items() if is_same_subject(name, whole)), None)


def names(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Everything a user may be called for this certificate, best first; the subject last."""
    given = certificate.get("subjectAltName", ())
    for wanted in ALTERNATIVES:
        yield from (value for kind, value in given if kind == wanted)
    found = subject(certificate)
    if found:
        yield found


def subject(certificate: Mapping[str, Any]) -> str:
    rows = reversed(certificate.get("subject", ()))
    return ",".join("+".join(f"{SHORT.get(key, key)}={_escaped(value)}" for key, value in row) for row in rows)


def _escaped(value: str) -> str:
    text = _SPECIAL.sub(r"\\\1", value)
    if text.startswith(("#", " ")):
        text = "\\" + text
    return text[:-1] + "\\ " if text.endswith(" ") and len(text) > 1 else text


def is_same_subject(one: str, two: str) -> bool:
    """Whether two subjects have the same parts, in any order; a name that is no subject is none."""
    return "=" in one and "=" in two and _parts(one) == _parts(two)


def _parts(text: str) -> list[str]:
    found = []
    for part in _UNESCAPED_COMMA.split(text):
        kind, _, value = part.strip().partition("=")
        found.append(f"{kind.strip().upper()}={value.strip()}")
    return sorted(found)
