"""Control messages: to suspend, to resume, to terminate. They need neither the code nor a healthy instance.

To suspend and to resume cause no commands, whatever the orchestrator waits for: so they may be appended to a history that nobody replays.
Where an instance has not begun, its status says it alone: its history has to begin with its start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from durable_core import events as ev
from durable_core.backend import ClaimedTurn, InstanceStatus, Message, RecordUpdate
from durable_core.codec import decode_event, encode_event, join_events
from durable_core.errors import StoreError
from durable_core.runtime.fresh import fresh_id

ControlEvent = ev.ExecutionSuspended | ev.ExecutionResumed | ev.ExecutionTerminated


def control_event(message: Message | None, at_us: int = 0) -> ControlEvent | None:
    """None: it is none, or one that this version cannot read."""
    if message is None or not message.control:
        return None
    try:
        event = decode_event(message.payload, at_us)
    except StoreError:
        return None
    return event if isinstance(event, ControlEvent) else None


def terminates(message: Message | None) -> bool:
    return isinstance(control_event(message), ev.ExecutionTerminated)


class Standing:
    """Of an instance: what keeps it from being run. ``begun``: it has a history."""

    def __init__(self, claimed: ClaimedTurn | None = None) -> None:
        self.begun = claimed is not None and claimed.history_length > 0
        self.suspended = claimed is not None and claimed.status is InstanceStatus.SUSPENDED
        self.parked = claimed is not None and claimed.parked

    def after(self, messages: Iterable[Message], now_us: int, again_us: int) -> dict[str, Any]:
        """The fields of the commit that consumes these control messages. What cannot be carried out now comes again at ``again_us``: left
        where it is, it would make the instance claimable at once, again and again.

        To resume undoes one thing: a suspension if there is one, else parking. Back-off and a delayed start it leaves alone.
        """
        events, later = list[ControlEvent](), list[Message]()
        unparks = False
        for message in messages:
            event = control_event(message, now_us)
            if event is None or isinstance(event, ev.ExecutionTerminated):
                later.append(replace(message, id=fresh_id(), due_us=again_us))
                continue
            resumes = isinstance(event, ev.ExecutionResumed)
            unparks = unparks or (resumes and self.parked and not self.suspended)
            self.suspended = not resumes
            events.append(event)
        fields: dict[str, Any] = {"timers": tuple(later), "control_only": not unparks}
        if events:
            going_on = InstanceStatus.RUNNING if self.begun else InstanceStatus.PENDING
            fields["record"] = RecordUpdate(InstanceStatus.SUSPENDED if self.suspended else going_on)
            if self.begun:
                fields |= {"append": join_events(map(encode_event, events)), "append_count": len(events)}
        return fields
