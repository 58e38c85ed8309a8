"""What a program defines: activities, orchestrators and entities, and the registry that knows them by name.

activity.py      ``Activity``, its decorator and ``ActivityContext``
orchestrator.py  ``Orchestrator`` and its decorator
entity.py        entity classes, their operations and state, ``EntityId``
registry.py      names → definitions, bound to one engine's data converter
wall_clock.py    the check at registration for clocks and randomness in an orchestrator
"""

from __future__ import annotations

from durable_core.definitions.activity import Activity, ActivityContext, AsyncActivity, SyncActivity, activity
from durable_core.definitions.entity import EntityContext, EntityDefinition, EntityId, entity
from durable_core.definitions.orchestrator import Orchestrator, orchestrator
from durable_core.definitions.registry import (
    BoundActivity,
    BoundEntity,
    BoundOperation,
    BoundOrchestrator,
    Registry,
    UnknownActivity,
    UnknownOrchestrator,
)

__all__ = [
    "Activity",
    "ActivityContext",
    "AsyncActivity",
    "BoundActivity",
    "BoundEntity",
    "BoundOperation",
    "BoundOrchestrator",
    "EntityContext",
    "EntityDefinition",
    "EntityId",
    "Orchestrator",
    "Registry",
    "SyncActivity",
    "UnknownActivity",
    "UnknownOrchestrator",
    "activity",
    "entity",
    "orchestrator",
]
