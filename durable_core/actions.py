"""What one turn of an orchestrator asks for.

The *commands* are events themselves (``events.py``), since everything that an orchestrator asks for is also recorded. What is said here is
how they leave the machine: a ``Turn`` is the machine's whole answer to some messages. It is data; writing it down durably is somebody
else's job. Another machine, say one in another language, may produce it too.
"""

from __future__ import annotations

from msgspec import Struct

from durable_core.events import Event, ExecutionCompleted, ExecutionContinuedAsNew, ExecutionFailed, ExecutionTerminated

Ending = ExecutionCompleted | ExecutionFailed | ExecutionContinuedAsNew | ExecutionTerminated


class Turn(Struct, frozen=True):
    """``events`` is what is to be appended to the history, message events and commands, in order.

    ``custom_status`` is the encoded new custom status if the turn set one. ``ending`` is the event that ended the execution, if it ended.
    ``unknown_activities`` are names scheduled and not yet answered that this engine has no function for. ``locks`` are entities that the
    execution has locked or asked to lock: (number of the request, the entity's instance id). ``bound_children``, of a turn with an ending,
    are the instance ids of children that are to end with it.
    """

    events: tuple[Event, ...]
    custom_status: str | None = None
    ending: Ending | None = None
    unknown_activities: tuple[str, ...] = ()
    locks: tuple[tuple[int, str], ...] = ()
    bound_children: tuple[str, ...] = ()
