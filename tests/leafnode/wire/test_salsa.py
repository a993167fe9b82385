"""XSalsa20 and sealed boxes against the worked example of the NaCl paper (Bernstein, Cryptography in NaCl, 2009)."""

import pytest
from cryptography.hazmat.primitives.poly1305 import Poly1305

from leafnode.net.secrets import SealingKey
from leafnode.wire.salsa import hsalsa20, xor, xsalsa20

SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
FIRST = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
PLAIN = bytes.fromhex(
    "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f4"
    "1db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52"
    "f0a089bc76897040e082f937763848645e0705"
)
BOXED = bytes.fromhex(
    "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b"
    "4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da"
    "99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5"
)


def test_the_key_of_two_parties() -> None:
    assert hsalsa20(SHARED, bytes(16)) == FIRST


def test_the_box_of_the_paper() -> None:
    stream = xsalsa20(FIRST, NONCE, 32 + len(PLAIN))
    sealed = xor(PLAIN, stream[32:])
    assert Poly1305.generate_tag(stream[:32], sealed) + sealed == BOXED


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 1000])
def test_what_is_sealed_is_opened_by_the_other_only(size: int) -> None:
    one, two, three = SealingKey(), SealingKey(), SealingKey()
    message = bytes(range(256)) * 4
    envelope = one.seal(message[:size], two.public)
    assert two.open(envelope, one.public) == message[:size]
    for key, sender, text in (
        (three, one, envelope),
        (two, three, envelope),
        (two, one, envelope[:-1] + bytes([envelope[-1] ^ 1])),
        (two, one, envelope[4:]),
        (two, one, b"xkv1"),
        (two, one, b""),
    ):
        with pytest.raises(ValueError, match="sealed"):
            key.open(text, sender.public)


def test_other_keys_are_refused() -> None:
    key = SealingKey()
    for other in ("", "X", "U" + key.public[1:], key.public[:-1] + ("B" if key.public.endswith("A") else "A")):
        with pytest.raises(ValueError):  # noqa: PT011 (base32 has its own words)
            key.seal(b"x", other)
