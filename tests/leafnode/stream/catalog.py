"""What a store would keep of streams and consumers beside the messages, so that a bench can be started again."""

from leafnode.stream.journal import (
    Batch,
    ConsumerState,
    CreateConsumer,
    CreateStream,
    DropConsumer,
    DropStream,
    UpdateConsumer,
    UpdateStream,
)
from leafnode.stream.loaded import LoadedConsumer


class Catalog:
    """Configurations, positions and unacknowledged deliveries, by number."""

    def __init__(self) -> None:
        self.streams: dict[int, CreateStream] = {}
        self.consumers: dict[int, CreateConsumer] = {}
        self._states: dict[int, ConsumerState] = {}
        self._pending: dict[int, dict[int, tuple[int, int, int]]] = {}

    def apply(self, batch: Batch) -> None:
        for change in batch.catalog:
            match change:
                case CreateStream():
                    self.streams[change.stream_id] = change
                case UpdateStream():
                    self.streams[change.stream_id] = self.streams[change.stream_id]._replace(config=change.config)
                case DropStream():
                    self.streams.pop(change.stream_id)
                case CreateConsumer():
                    self.consumers[change.consumer_id] = change
                case UpdateConsumer():
                    made = self.consumers[change.consumer_id]
                    self.consumers[change.consumer_id] = made._replace(config=change.config)
                case DropConsumer():
                    self.consumers.pop(change.consumer_id)
        for number, changes in batch.consumers.items():
            pending = self._pending.setdefault(number, {})
            if changes.rewrite:
                pending.clear()
            pending.update({row[0]: row[1:] for row in changes.rows})
            for seq in changes.dropped:
                pending.pop(seq, None)
            self._states[number] = changes.state

    def consumers_of(self, stream_id: int) -> list[LoadedConsumer]:
        return [
            LoadedConsumer(
                id=made.consumer_id,
                name=made.name,
                config=made.config,
                created=made.created,
                state=self._states[made.consumer_id],
                pending=sorted((seq, *row) for seq, row in self._pending.get(made.consumer_id, {}).items()),
            )
            for made in self.consumers.values()
            if made.stream_id == stream_id
        ]
