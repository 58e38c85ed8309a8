"""Everything that durable-core raises.

    DurableError
    ├── UsageError                       your code asked for something that cannot be
    │   ├── RegistrationError            a definition that cannot be registered (also: two of one name)
    │   ├── NotRegisteredError           a call of a function that the engine does not know
    │   ├── ArgumentsError               arguments that do not fit the callee's signature (also a TypeError)
    │   ├── InvalidInstanceIdError       empty, too long, or reserved (also a ValueError)
    │   ├── PayloadError                 a value that cannot be encoded or decoded
    │   │   └── PayloadTooLargeError     a value over the store's hard limit
    │   ├── OutsideOrchestratorError     a ctx method used where no turn of that instance runs
    │   ├── LockingRulesViolationError   inside ``lock_entities``: what could deadlock
    │   ├── ForbiddenInOrchestratorError I/O, threads or another event loop inside an orchestrator
    │   ├── EngineStateError             the engine is closed, already open, was forked, or is used from another loop or thread
    │   └── StoreUrlError                an unknown scheme or a URL that cannot be read
    ├── InstanceError                    about one instance, seen by a client
    │   ├── InstanceNotFoundError
    │   ├── InstanceAlreadyExistsError
    │   └── OrchestrationFailedError     ``handle.result()`` of an instance that FAILED or was TERMINATED
    ├── EngineFailedError                a part of the open engine has died of an unexpected error, its ``__cause__``
    ├── TaskFailedError                  inside an orchestrator: what was called has failed
    ├── TaskTimeoutError                 inside an orchestrator: ``timeout=`` of a call ran out (a TimeoutError)
    ├── ReplayError                      code and history do not fit; the instance is kept and retried
    │   ├── NonDeterminismError
    │   ├── OrchestrationStuckError
    │   └── TurnTooLongError
    └── StoreError                       the store's fault, not yours
        ├── StoreFormatError             not a task hub of ours, or damaged
        ├── StoreVersionError            written by a newer version of durable-core
        ├── StoreReadOnlyError           the store cannot be written
        ├── StoreFullError               no space left; nothing of the failed commit was written
        └── StoreUnavailableError        it may work again later (transient)

``UsageError`` and its children mean: change the call. ``StoreError`` and its children mean: look at the
store. Each message says which instance, what happened and what to do next.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from itertools import islice
from typing import Any

from msgspec import Struct


class FailureDetails(Struct, frozen=True, omit_defaults=True):
    """What is durably known of a failure; the exception object itself never leaves its process.

    ``type`` is the qualified name (``package.module.Class``; builtins without module), ``stack`` the formatted
    trace, ``inner`` the cause (``__cause__``, else ``__context__``), at most ten deep. ``properties`` holds
    what the exception offered as ``failure_properties`` (a mapping of strings). ``members`` are the parts of an exception group, at
    most 100 of ``member_count``. ``notes`` are the texts that ``add_note`` gave it, at most 20.
    """

    type: str
    message: str
    stack: str = ""
    inner: FailureDetails | None = None
    properties: dict[str, str] = {}
    non_retriable: bool = False
    members: tuple[FailureDetails, ...] = ()
    member_count: int = 0
    notes: tuple[str, ...] = ()

    def chain(self) -> Iterator[FailureDetails]:
        """This failure, then its causes, outermost first; members of groups follow their group."""
        yield self
        for member in self.members:
            yield from member.chain()
        if self.inner is not None:
            yield from self.inner.chain()

    def is_caused_by(self, kind: builtins.type[BaseException] | str) -> bool:
        """Whether this failure or one of its causes is ``kind``: an exception class or a type name.

        Classes are compared by qualified name, since the class may not exist in this process; a builtin base class
        (``is_caused_by(OSError)``) also matches its builtin subclasses.
        """
        wanted = kind if isinstance(kind, str) else qualified_name(kind)
        return any(wanted in (link.type, *_builtin_bases(link.type)) for link in self.chain())

    def __str__(self) -> str:
        """What a reader of one line needs: also the notes, and of a group the first members."""
        text = f"{self.type}: {self.message}" if self.message else self.type
        for note in self.notes:
            text += f" ({note})"
        if self.members:
            shown = [str(leaf) for leaf in islice(self._leaves(), _MEMBERS_SHOWN)]
            more = ["…"] if next(islice(self._leaves(), _MEMBERS_SHOWN, None), None) or len(self.members) < self.member_count else []
            text += f" [{'; '.join(shown + more)}]"
        return text

    def _leaves(self) -> Iterator[FailureDetails]:
        """The members, and in place of a group among them its own."""
        for member in self.members:
            if member.members:
                yield from member._leaves()
            else:
                yield member


_MEMBERS_SHOWN = 3


def qualified_name(kind: type) -> str:
    """``package.module.Class``, or ``Class`` for a builtin."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _builtin_bases(name: str) -> tuple[str, ...]:
    kind = getattr(builtins, name, None)
    return tuple(base.__qualname__ for base in kind.__mro__[1:-1]) if isinstance(kind, type) else ()


class DurableError(Exception):
    """The base of everything that durable-core raises. Can be copied and pickled, its attributes with it."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Python's own calls the class with ``args``, which hold the text only, not what ``__init__`` takes.
        return _remade, (type(self), self.args), self.__dict__


def _remade(kind: type[DurableError], args: tuple[Any, ...]) -> DurableError:
    return kind.__new__(kind, *args)


class UsageError(DurableError):
    """Your code asked for something that cannot be: change the call."""


class RegistrationError(UsageError):
    """A definition that cannot be registered; the message shows how to write it."""


class NotRegisteredError(UsageError):
    """A function was called through the engine that the engine does not know: decorate or register it."""


class ArgumentsError(UsageError, TypeError):
    """Arguments that do not fit the signature of the function that is called."""


class InvalidInstanceIdError(UsageError, ValueError):
    """An instance id that is empty, longer than the limit, or starts with the reserved ``@``."""


class PayloadError(UsageError):
    """A value that cannot be encoded or decoded; names the type and the place."""


class PayloadTooLargeError(PayloadError):
    """A value over the store's hard limit. Nothing was written: store it elsewhere and pass a reference."""


class OutsideOrchestratorError(UsageError, RuntimeError):
    """A method of an orchestration context was used outside a turn of its own orchestration."""


class LockingRulesViolationError(UsageError, RuntimeError):
    """Inside ``ctx.lock_entities``: a second section, a sub-orchestration, or a call to an entity that is not locked."""


class ForbiddenInOrchestratorError(UsageError, RuntimeError):
    """I/O, a thread, a process or another event loop inside an orchestrator: put it into an activity."""


class EngineStateError(UsageError, RuntimeError):
    """The engine is closed, open already, was forked while open, or is used from another thread or event loop than its own."""


class EngineFailedError(DurableError):
    """A background loop of the open engine has died of an unexpected error, the ``__cause__``; the engine has stopped. Its work is free for
    other workers, and the same engine may be opened again."""


class StoreUrlError(UsageError, ValueError):
    """A store URL with an unknown scheme, or one that cannot be read; names the installed schemes."""


class _OfInstance(DurableError):
    def __init__(self, instance_id: str, message: str) -> None:
        super().__init__(message)
        self.instance_id = instance_id


class InstanceError(_OfInstance):
    """About one instance, seen by a client."""


class InstanceNotFoundError(InstanceError):
    """No instance has this id (any more)."""


class InstanceAlreadyExistsError(InstanceError):
    """The id is taken; choose another, or pass a reuse policy."""


class OrchestrationFailedError(InstanceError):
    """The result of an instance was asked for, and it FAILED or was TERMINATED; ``details`` says why."""

    def __init__(self, instance_id: str, message: str, details: FailureDetails | None = None) -> None:
        super().__init__(instance_id, message)
        self.details = details


class TaskFailedError(DurableError):
    """Raised in an orchestrator when the activity, sub-orchestration or entity operation it called has failed.

    ``name`` is what was called, ``task_id`` its number among the calls of its kind, ``details`` the failure.
    """

    def __init__(self, name: str, task_id: int, details: FailureDetails) -> None:
        super().__init__(f"{name} (call {task_id}) failed: {details}")
        self.name = name
        self.task_id = task_id
        self.details = details


class TaskTimeoutError(DurableError, TimeoutError):
    """``timeout=`` of a call ran out before the call ended; the call was cancelled."""


class ReplayError(_OfInstance):
    """Code and history do not fit. The instance is kept: its turn is given up and tried again later."""


class NonDeterminismError(ReplayError):
    """On replay the orchestrator asked for something else than its history says it did."""


class OrchestrationStuckError(ReplayError):
    """The orchestrator waits for something that nothing outstanding can ever bring about."""


class TurnTooLongError(ReplayError):
    """One turn ran more steps, or asked for more commands, than the engine's limit."""


class StoreError(DurableError):
    """The store's fault, not yours. The driver's error is the ``__cause__``."""


class StoreFormatError(StoreError):
    """The store is not a task hub of durable-core, or is damaged."""


class StoreVersionError(StoreError):
    """The store was written by a newer version of durable-core: upgrade this program."""


class StoreReadOnlyError(StoreError):
    """The store cannot be written by this process."""


class StoreFullError(StoreError):
    """No space is left. Nothing of the failed commit was written; work goes on when there is space again."""


class StoreUnavailableError(StoreError):
    """The store cannot be reached or is busy; the same call may work later."""
