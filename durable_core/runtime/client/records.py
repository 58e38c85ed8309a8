"""What a client sees of an instance."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar, overload

from attrs import field, frozen

from durable_core.backend import ENDED, InstanceRecord, InstanceStatus
from durable_core.codec import decode_event
from durable_core.definitions.registry import Registry
from durable_core.errors import FailureDetails, StoreError
from durable_core.events import ExecutionFailed, ExecutionStarted, Parent
from durable_core.moments import to_datetime

T = TypeVar("T")


@frozen
class OrchestrationState:
    """An instance at one moment. Times are aware, UTC, by the store's clock. ``problem`` says why it does not get on, if it does not."""

    instance_id: str
    execution_id: str
    name: str
    runtime_status: InstanceStatus
    created_at: datetime
    last_updated_at: datetime
    history_length: int
    failure: FailureDetails | None
    problem: str | None
    parked: bool
    parent: Parent | None
    tags: dict[str, str]
    serialized_input: str | None
    serialized_output: str | None
    serialized_custom_status: str | None
    _registry: Registry = field(repr=False, eq=False)

    @property
    def is_ended(self) -> bool:
        return self.runtime_status in ENDED

    @overload
    def output_as(self, type_: type[T]) -> T | None: ...
    @overload
    def output_as(self, type_: Any) -> Any: ...
    def output_as(self, type_: Any) -> Any:
        """The output, decoded as this type; None while there is none."""
        return self._registry.decoder(type_)(self.serialized_output)

    @overload
    def input_as(self, type_: type[T]) -> T | None: ...
    @overload
    def input_as(self, type_: Any) -> Any: ...
    def input_as(self, type_: Any) -> Any:
        """The input, decoded as this type (``list`` or a tuple type if there were several arguments)."""
        return self._registry.decoder(type_)(self.serialized_input)

    @overload
    def custom_status_as(self, type_: type[T]) -> T | None: ...
    @overload
    def custom_status_as(self, type_: Any) -> Any: ...
    def custom_status_as(self, type_: Any) -> Any:
        """What the orchestrator last set by ``ctx.set_custom_status``, decoded as this type."""
        return self._registry.decoder(type_)(self.serialized_custom_status)


def read_record(record: InstanceRecord, registry: Registry) -> OrchestrationState:
    started, damage = _start_of(record)
    return OrchestrationState(
        record.instance,
        record.execution,
        record.name,
        record.status,
        to_datetime(record.created_us),
        to_datetime(record.updated_us),
        record.history_length,
        decode_failure(record.failure),
        record.problem or damage,
        record.parked,
        started.parent,
        started.tags,
        started.input,
        _text(record.output),
        _text(record.custom_status),
        registry,
    )


def _start_of(record: InstanceRecord) -> tuple[ExecutionStarted, str | None]:
    """And what is wrong with it: whoever looks for such an instance is to find it."""
    try:
        return decode_event(record.start, 0), None
    except StoreError as error:
        return ExecutionStarted(record.name, None, 0), str(error)


def decode_failure(data: bytes | None) -> FailureDetails | None:
    if data is None:
        return None
    event: ExecutionFailed = decode_event(data, 0)
    return event.failure


def _text(data: bytes | None) -> str | None:
    return data.decode() if data is not None else None
