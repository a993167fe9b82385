"""Which user a certificate stands for."""

from typing import Any

import pytest

from leafnode.route.auth import User
from leafnode.route.certificate import is_same_subject, names, subject, user_of_certificate

CERTIFICATE: dict[str, Any] = {
    "subject": (
        (("countryName", "NL"),),
        (("organizationName", "acme, inc"),),
        (("organizationalUnitName", "a"), ("organizationalUnitName", "b")),
        (("commonName", "device"),),
    ),
    "subjectAltName": (
        ("DNS", "site.example.net"),
        ("email", "one@example.net"),
        ("email", "two@example.net"),
        ("URI", "spiffe://x"),
    ),
}
WHOLE = "CN=device,OU=a+OU=b,O=acme\\, inc,C=NL"


def test_names_in_the_order_of_the_specification() -> None:
    expected = ["one@example.net", "two@example.net", "site.example.net", "spiffe://x", WHOLE]
    assert list(names(CERTIFICATE)) == expected
    assert subject(CERTIFICATE) == WHOLE
    assert list(names({})) == []


@pytest.mark.parametrize(
    ("users", "found"),
    [
        (["site.example.net", "two@example.net"], "two@example.net"),
        (["spiffe://x", WHOLE], "spiffe://x"),
        (["C=NL,O=acme\\, inc,OU=a+OU=b,CN=device"], "C=NL,O=acme\\, inc,OU=a+OU=b,CN=device"),
        (["CN=device", "CN=device,O=acme", "device"], None),
        ([""], None),
    ],
)
def test_the_first_name_that_is_a_user(users: list[str], found: str | None) -> None:
    user = user_of_certificate(CERTIFICATE, [User(name=name) for name in users])
    assert (user.name if user else None) == found


def test_nobody_without_a_certificate() -> None:
    assert user_of_certificate({}, [User(name="a"), User(name="")]) is None


def test_subjects_are_compared_part_by_part() -> None:
    assert is_same_subject("CN=a, O=b", "o=b,cn=a")
    assert not is_same_subject("CN=a", "CN=A")
    assert not is_same_subject("CN=a,CN=a", "CN=a")
    assert not is_same_subject("", "")
