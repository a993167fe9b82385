"""What may cross a leaf link, each way: the configuration's rules, the user's permissions, and the domains' borders.

`told` holds what the other side, or whoever let it in, permits; a later word replaces the earlier one. Verdicts about
literal subjects are remembered, since a message asks each time.
"""

from leafnode.route.interest import LOOP_PREFIX
from leafnode.route.subject import is_literal, is_subset, matches, overlap

VERDICTS_MAX = 4096  # subjects whose permission to cross is remembered, each way
NEVER_CROSS = (b"$JS.API.>", b"$KV.>", b"$OBJ.>")  # each side's JetStream answers its own

Permits = tuple[tuple[bytes, ...] | None, tuple[bytes, ...]]
"""Allowed subjects (None: all), denied subjects."""
ALL: Permits = (None, ())


class Way:
    """One direction."""

    def __init__(self, denied: tuple[bytes, ...]) -> None:
        self._own = denied
        self._denied = denied
        self.allowed: tuple[bytes, ...] | None = None
        self._verdicts: dict[bytes, bool] = {}

    def permit(self, permits: Permits) -> None:
        self.allowed, denied = permits
        self._denied = (*self._own, *denied)
        self._verdicts.clear()

    def open_to(self, subject: bytes) -> bool:
        """Whether a message with this literal subject may pass."""
        verdict = self._verdicts.get(subject)
        if verdict is None:
            verdict = not any(matches(pattern, subject) for pattern in self._denied)
            if verdict and self.allowed is not None:
                verdict = any(matches(pattern, subject) for pattern in self.allowed)
            if len(self._verdicts) >= VERDICTS_MAX:
                self._verdicts.clear()
            self._verdicts[subject] = verdict
        return verdict

    def is_shut_for(self, pattern: bytes) -> bool:
        """Whether nothing of what the pattern matches may pass, because it is denied."""
        return any(is_subset(pattern, denied) for denied in self._denied)


class Crossing:
    """Both directions of one link."""

    def __init__(self, *, domain: str, deny_imports: tuple[bytes, ...], deny_exports: tuple[bytes, ...]) -> None:
        """`domain`: of our JetStream, whose API others reach by asking us, never by what leaves us."""
        own_api = (b"$JS." + domain.encode() + b".API.>",) if domain else ()
        self.inward = Way((*NEVER_CROSS, *deny_imports))
        self.outward = Way((*NEVER_CROSS, *own_api, *deny_exports))
        self.broker = Way((*NEVER_CROSS, *own_api))
        """Outward, for messages of the broker itself: `deny_exports` is about what others publish."""

    def told(self, *, inward: Permits, outward: Permits) -> None:
        self.inward.permit(inward)
        self.outward.permit(outward)
        self.broker.permit(outward)

    def is_wanted(self, subject: bytes, *, is_hub: bool) -> bool:
        """Whether the other side may and should send us what matches. A hub may ask for more than it will get."""
        if subject.startswith(LOOP_PREFIX):
            return True
        if self.inward.is_shut_for(subject):
            return False
        fits, allowed = overlap if is_hub else is_subset, self.inward.allowed
        return allowed is None or any(fits(subject, given) for given in allowed)

    def may_hear(self, subject: bytes) -> bool:
        """Whether the other side may subscribe; marks of servers always, wildcards are filtered at delivery."""
        allowed = self.outward.allowed
        if allowed is None or subject.startswith(LOOP_PREFIX) or not is_literal(subject):
            return True
        return any(matches(pattern, subject) for pattern in allowed)


def permits_of(permission: object, refused: object = None) -> Permits:
    """`{"allow": […], "deny": […]}` of an INFO; `refused`: a list of more denied subjects."""
    listed = permission.get("allow") if isinstance(permission, dict) else None
    denied = permission.get("deny") if isinstance(permission, dict) else None
    return subjects_of(listed) or None, (*subjects_of(denied), *subjects_of(refused))


def subjects_of(listed: object) -> tuple[bytes, ...]:
    return tuple(str(subject).encode() for subject in listed) if isinstance(listed, list) else ()
