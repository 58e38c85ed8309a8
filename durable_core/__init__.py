"""durable-core: a durable-orchestration engine that a Python program embeds.

Layout, from the inside out (imports point upwards only):

    errors, events, actions      what can go wrong, what can happen, what a turn asks for
    backend, hub                 the storage protocol, and its executable specification
    codec, converter, parameters events and payloads to and from text
    definitions                  activities, orchestrators, entities
    replay                       the deterministic machine
    runtime                      engine, worker, client: the first place with real time, threads and a store
    testing                      the memory backend and what users test with
"""

from durable_core.backend import InstanceStatus as InstanceStatus
from durable_core.converter import DataConverter as DataConverter
from durable_core.converter import JsonConverter as JsonConverter
from durable_core.definitions.activity import Activity as Activity
from durable_core.definitions.activity import ActivityContext as ActivityContext
from durable_core.definitions.activity import activity as activity
from durable_core.definitions.entity import EntityContext as EntityContext
from durable_core.definitions.entity import EntityId as EntityId
from durable_core.definitions.entity import entity as entity
from durable_core.definitions.orchestrator import Orchestrator as Orchestrator
from durable_core.definitions.orchestrator import orchestrator as orchestrator
from durable_core.definitions.wall_clock import DeterminismWarning as DeterminismWarning
from durable_core.errors import ArgumentsError as ArgumentsError
from durable_core.errors import DurableError as DurableError
from durable_core.errors import EngineFailedError as EngineFailedError
from durable_core.errors import EngineStateError as EngineStateError
from durable_core.errors import FailureDetails as FailureDetails
from durable_core.errors import ForbiddenInOrchestratorError as ForbiddenInOrchestratorError
from durable_core.errors import InstanceAlreadyExistsError as InstanceAlreadyExistsError
from durable_core.errors import InstanceNotFoundError as InstanceNotFoundError
from durable_core.errors import InvalidInstanceIdError as InvalidInstanceIdError
from durable_core.errors import LockingRulesViolationError as LockingRulesViolationError
from durable_core.errors import NonDeterminismError as NonDeterminismError
from durable_core.errors import NotRegisteredError as NotRegisteredError
from durable_core.errors import OrchestrationFailedError as OrchestrationFailedError
from durable_core.errors import OrchestrationStuckError as OrchestrationStuckError
from durable_core.errors import PayloadError as PayloadError
from durable_core.errors import PayloadTooLargeError as PayloadTooLargeError
from durable_core.errors import RegistrationError as RegistrationError
from durable_core.errors import StoreError as StoreError
from durable_core.errors import StoreFormatError as StoreFormatError
from durable_core.errors import StoreFullError as StoreFullError
from durable_core.errors import StoreReadOnlyError as StoreReadOnlyError
from durable_core.errors import StoreUnavailableError as StoreUnavailableError
from durable_core.errors import StoreUrlError as StoreUrlError
from durable_core.errors import StoreVersionError as StoreVersionError
from durable_core.errors import TaskFailedError as TaskFailedError
from durable_core.errors import TaskTimeoutError as TaskTimeoutError
from durable_core.replay.context import OrchestrationContext as OrchestrationContext
from durable_core.replay.fan_in import when_all as when_all
from durable_core.replay.fan_in import when_any as when_any
from durable_core.replay.futures import DurableTask as DurableTask
from durable_core.replay.machine import Limits as Limits
from durable_core.retry import RetryContext as RetryContext
from durable_core.retry import RetryPolicy as RetryPolicy
from durable_core.runtime.client.client import DurableClient as DurableClient
from durable_core.runtime.client.client import OrchestrationHandle as OrchestrationHandle
from durable_core.runtime.client.entities import CleanedEntities as CleanedEntities
from durable_core.runtime.client.entities import EntityState as EntityState
from durable_core.runtime.client.records import OrchestrationState as OrchestrationState
from durable_core.runtime.engine import DurableEngine as DurableEngine
from durable_core.runtime.options import WorkerOptions as WorkerOptions

__version__ = "0.1.0"
