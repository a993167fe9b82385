"""What our end of a leaf link is and wants, and how CONNECT and INFO say it (spec leafnode-protocol section 1)."""

import dataclasses
from collections.abc import Mapping

PROTO = 1  # of links: no tracing of messages


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LeafOptions:
    """What this end is and wants."""

    server_id: str
    server_name: str
    version: str
    domain: str = ""
    jetstream: bool = False
    deny_imports: tuple[bytes, ...] = ()  # subjects not wanted from the hub
    deny_exports: tuple[bytes, ...] = ()  # subjects not sent to the hub
    loop_id: bytes = b""  # 22 characters, the same for the life of the server
    isolate: bool = False  # the other side does not hear of the interest of leaves
    request_isolation: bool = False  # ask the other side for the same
    hub: bool = False  # we dial, and are the hub all the same
    max_payload: int = 1024 * 1024  # bytes
    max_control_line: int = 4096  # bytes, of a client

    def connect(self, account: str, credentials: Mapping[str, str]) -> dict[str, object]:
        """The fields of CONNECT, for our `account`."""
        fields: dict[str, object] = {
            "version": self.version,
            **credentials,
            "server_id": self.server_id,
            "name": self.server_name,
            "cluster": self.server_name,
            "headers": True,
            "jetstream": self.jetstream,
            "compress_mode": "not supported",
            "remote_account": account,
            "protocol": PROTO,
        }
        if self.domain:
            fields["domain"] = self.domain
        if self.deny_imports:
            fields["deny_pub"] = [subject.decode() for subject in self.deny_imports]
        if self.hub:
            fields["is_hub"] = True
        if self.request_isolation:
            fields["isolate"] = True
        return fields

    def introduction(self) -> dict[str, object]:
        """The same end, as an INFO says it."""
        return {
            "server_id": self.server_id,
            "server_name": self.server_name,
            "version": self.version,
            "proto": PROTO,
            "cluster": self.server_name,
            "domain": self.domain,
            "headers": True,
            "jetstream": self.jetstream,
        }
