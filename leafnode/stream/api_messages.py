"""Reading and deleting single messages: STREAM.MSG.GET and STREAM.MSG.DELETE (spec jetstream-api section 6).

Every look-up waits until what was kept before it is committed: readers never see what might be lost.
"""

import base64
from typing import TYPE_CHECKING, Any

from leafnode.errors import ApiError
from leafnode.stream import faults, schema, times
from leafnode.stream.api import Api, Endpoint, Request
from leafnode.stream.direct_gets import DirectGets
from leafnode.stream.message_finder import GET, find, is_one_style
from leafnode.stream.stored import Stored
from leafnode.stream.stream import Stream

if TYPE_CHECKING:
    from leafnode.stream.jetstream import JetStream

_DELETE: dict[str, schema.Kind] = {"seq": schema.unsigned, "no_erase": schema.boolean}


class MessageApi:
    """Handlers of one account's message requests."""

    def __init__(self, jetstream: "JetStream", api: Api) -> None:
        self._js = jetstream
        self._around = jetstream.around
        api.endpoint("STREAM.MSG.GET", Endpoint(self.get, "stream_msg_get_response"), tokens=1)
        api.endpoint("STREAM.MSG.DELETE", Endpoint(self.delete, "stream_msg_delete_response"), tokens=1)
        api.raw("DIRECT.GET", DirectGets(jetstream).take)

    def get(self, request: Request) -> None:
        if not request.body.strip():
            raise faults.fault(faults.BAD_REQUEST)
        asked = schema.parse(request.body, GET)
        if asked.get("batch", 0) > 0 or asked.get("max_bytes", 0) > 0 or not is_one_style(asked):
            raise faults.fault(faults.BAD_REQUEST)
        stream = self._js.stream(request.tokens[0])
        bare = asked.get("no_hdr", False)

        def found(stored: Stored | None) -> None:
            if stored is None:
                request.fail(faults.fault(faults.NO_MESSAGE))
            else:
                request.answer_quietly({"message": _as_json(stored, bare=bare)})

        find(stream, asked, found)

    def delete(self, request: Request) -> None:
        if request.body.strip() in (b"", b"{}"):
            raise faults.fault(faults.BAD_REQUEST)
        asked = schema.parse(request.body, _DELETE)
        stream = self._js.stream(request.tokens[0])
        seq = asked.get("seq", 0)
        if stream.config.sealed:
            raise faults.fault(faults.SEALED)
        if stream.config.deny_delete:
            raise faults.fault(faults.MESSAGE_DELETE, "message delete not permitted")
        problem = _not_there(stream, seq)
        if problem is not None:
            request.fail(problem, counts=False)
            return
        erases = not asked.get("no_erase", False)
        self._around.journal.after(
            lambda failure: request.attempt(lambda: self._delete(request, stream, seq, failure, erases=erases))
        )

    def _delete(self, request: Request, stream: Stream, seq: int, failure: str, *, erases: bool) -> None:
        if failure:
            raise faults.fault(faults.MESSAGE_DELETE, failure)

        def removed(weights: dict[int, Any]) -> None:
            weight = weights.get(seq)
            if weight is None or stream.contents.is_gone(seq):
                request.fail(faults.fault(faults.SEQUENCE_NOT_FOUND, seq), counts=False)
                return
            stream.remove(seq, weight.subject, weight.size, "deleted")
            stream.changes().erases |= erases
            self._around.journal.after(done)

        def done(late: str) -> None:
            if late:
                request.fail(faults.fault(faults.MESSAGE_DELETE, late))
            else:
                request.answer({"success": True})

        known = stream.recall.weight(seq)
        if known is not None:
            removed({seq: known})
        else:
            stream.recall.weights([seq], removed)


def _not_there(stream: Stream, seq: int) -> ApiError | None:
    """Why a message cannot be deleted."""
    if seq < max(1, stream.contents.first_seq):
        return faults.fault(faults.MESSAGE_DELETE, "no message found")
    if seq > stream.contents.last_seq:
        return faults.fault(faults.MESSAGE_DELETE, "stream store EOF")
    return faults.fault(faults.SEQUENCE_NOT_FOUND, seq) if stream.contents.is_gone(seq) else None


def _as_json(stored: Stored, *, bare: bool) -> dict[str, object]:
    shown: dict[str, object] = {"subject": stored.subject.decode(errors="replace"), "seq": stored.seq}
    if stored.headers and not bare:
        shown["hdrs"] = base64.b64encode(stored.headers).decode()
    if stored.payload:
        shown["data"] = base64.b64encode(stored.payload).decode()
    shown["time"] = times.to_text(stored.time)
    return shown
