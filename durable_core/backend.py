"""The storage/queue protocol: what a store must do so that the engine can run on it.

A *task hub* holds instances, their histories, their inboxes of messages, and activity tasks. The engine uses
nine methods, all of them batch-first. Payloads are opaque ``bytes``; what the store must index is in the
open: ids, names, times, fences. Times that come *out* are hub timestamps (``*_us``: microseconds since the epoch
on the store's clock); what goes *in* are durations, and hub timestamps computed from earlier ones. No worker's clock decides anything.

The rules (each a property of the conformance kit; ``hub.py`` is the executable form of this page):

* **Independence.** Each command is all-or-nothing and independent of its batch: a fenced or rejected one spoils nothing.
  How commands are cut into batches never changes the final state.
* **Fence.** A ``CommitTurn`` is accepted iff execution, epoch and version are current. Leases give liveness, the fence gives safety.
* **Durability.** When ``apply`` or ``claim`` returns, what it reports is durable at the declared level.
* **Ambiguity.** Any command may be submitted again after a lost reply and says ``ALREADY_APPLIED`` (a completion may
  say ``GONE``; a commit says so until its instance accepts a later one). Ids of client messages and creates are remembered for
  ``Capabilities.dedup_window_us``, beyond consumption, replacement and purge. Repeating a ``claim`` with its ``claim_id``
  returns the same items.
* **Time.** The hub's clock never runs backwards, and it goes on when the wall clock is set back (``hub.HubClock``). Timers are messages that become visible later: never early, at most once, never after a
  commit that cancelled them.
* **Progress.** Wake-ups are hints: dropping all of them costs latency only. What is due for over a second is never passed
  over for something younger. Parked, suspended or unknown instances never block others.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from durable_core.errors import DurableError

PROTOCOL_VERSION = 1
"""Grows when a backend has to change."""

DELIVERIES_IN_COMPANY = 2
"""So often a task is delivered like any other. If it was never given an answer, each further delivery is that of a suspect."""

MAX_ID_LENGTH = 512
ENTITY_PREFIX = "@"
"""Instance ids that start with it are entities (``@name@key``); user-chosen ids may not."""


class InstanceStatus(enum.StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TERMINATED = "TERMINATED"


ENDED = frozenset({InstanceStatus.COMPLETED, InstanceStatus.FAILED, InstanceStatus.TERMINATED})

ReusePolicy = Literal["error", "return_existing", "replace_ended", "terminate_and_replace"]


# ── what is written ───────────────────────────────────────────────────────────────────────────────────────────


class Message(Struct, frozen=True, gc=False, omit_defaults=True):
    """Something for an instance's inbox.

    ``id`` is unique within the hub and recognises a repeated submission. ``execution`` scopes it to one execution of the target (it is
    dropped when that one is over); None means whichever is current. ``sender`` is any stable name of the origin: order is kept per
    (sender, target). ``due_us`` is the hub time from which it is visible (0: at once); inboxes are handed out in the order in which
    messages became visible. A ``control`` message makes suspended, parked and backed-off instances claimable, by any worker. ``creates``
    is the entity's name if the message may create its target as an entity.
    """

    id: str
    target: str
    payload: bytes
    execution: str | None = None
    sender: str = ""
    due_us: int = 0
    control: bool = False
    creates: str | None = None


class ParentRef(Struct, frozen=True, gc=False):
    """Who started a child: enough to list children and to tell a parent's own child from a stranger's."""

    instance: str
    execution: str


class NewTask(Struct, frozen=True, gc=False):
    """An activity to be run. ``id`` is never reused; a retry is a new task. ``claim`` leases it to the committing worker."""

    id: str
    name: str
    payload: bytes
    claim: bool = False


class RecordUpdate(Struct, frozen=True, gc=False):
    """What a turn changes on the instance record; None leaves a field as it is. A status of ``ENDED`` ends the execution."""

    status: InstanceStatus | None = None
    custom_status: bytes | None = None
    output: bytes | None = None
    failure: bytes | None = None


class NextExecution(Struct, frozen=True, gc=False):
    """Continue-as-new: the same instance starts again as ``execution``; ``start`` is its first message (carried events inside)."""

    execution: str
    start: bytes


class CreateInstance(Struct, frozen=True, gc=False):
    """Start an orchestration instance under a fresh ``execution`` id.

    The instance is PENDING and ``start`` (opaque) is handed out with every claim until a commit appends events. ``delay_us`` holds the
    first turn back. An id that is taken is decided atomically by ``reuse``: "error" → ``EXISTS``; "return_existing" → ``EXISTS`` too (the
    caller reads the record); "replace_ended" replaces an ended one, otherwise ``EXISTS``; "terminate_and_replace" replaces any,
    delivering its obituaries if it had not ended. Replacing removes every trace of the old execution but its orphaned tasks.

    A child (``parent`` given) replaces an ended child of the *same parent instance*; any other taken id **bounces**: ``bounce``, an
    engine-made message, goes into its target's inbox atomically with the decision, and the outcome is ``EXISTS``. ``obituaries`` are set
    as in ``CommitTurn``.

    ``worker``: claim the new instance for this worker in the same write (attempt 1); the outcome's ``turn`` is the claim. Ignored with
    ``delay_us``. ``request_id`` makes a repeated submission ``ALREADY_APPLIED`` (with the ``turn`` again, if that is still out); "" means
    the enclosing commit already does that. In a commit's ``creates``, ``request_id`` and ``worker`` count for nothing, and the commit's
    own instance id is always taken.
    """

    instance: str
    execution: str
    name: str
    start: bytes
    request_id: str = ""
    reuse: ReusePolicy = "error"
    parent: ParentRef | None = None
    bounce: Message | None = None
    obituaries: tuple[Message, ...] = ()
    delay_us: int = 0
    worker: str | None = None


class SendMessage(Struct, frozen=True, gc=False):
    """Put a message into its target's inbox.

    ``OK``; ``ENDED`` if the target has ended; ``GONE`` if there is no target (and the message may not create it) or its execution is
    another one; ``ALREADY_APPLIED`` for a message id that was seen before. Nothing is written in the last three cases.
    """

    message: Message


class CommitTurn(Struct, frozen=True, gc=False):
    """One turn of one instance, all or nothing.

    Accepted iff (``execution``, ``epoch``, ``version``) is the instance's fence, also after its lease ended if nobody took it. On
    acceptance ``version`` grows by one whatever is appended, the attempt count and the problem are reset, and the instance is *held* by
    ``worker`` for ``hold_us`` (0: released): until then others may claim it only if a due message has waited for a second. The outcome
    carries due messages that the turn did not consume: if there are any, the instance counts as claimed again under the same fence,
    whatever ``hold_us`` says. So it does after ``next_execution``, whose start the worker has. (What a suspended instance could not be
    claimed for is not carried. A worker that was given up holds and claims nothing.)

    * ``append``: one history row of ``append_count`` events (None: no row).
    * ``consumes``: inbox message ids, explicitly; an unknown one is ignored.
    * ``settles``: tasks whose results are in ``append``: deletes the task whoever leases it by now, or else its undelivered completion
      (the message whose id is the task's id); if neither exists the whole turn is ``FENCED``.
    * ``tasks`` are created; ``cancel_tasks`` are deleted (or else their undelivered completion), or, if another worker runs them, marked
      so that its heartbeat learns of it. Creating and cancelling, or settling and cancelling, the same task in one turn is legal (nothing
      remains).
    * ``messages`` go to other instances (or back to this one); an ended or missing target drops them, and a ``control`` message reaches
      only a child of this instance. ``creates`` start children, before the messages are sent.
    * ``timers`` are messages to itself with a due time (control messages, too); ``cancel_timers`` deletes by message id, fired or not.
    * ``record`` with an ended status, and ``next_execution``, end the execution: its timers, execution-scoped messages and (unless
      ``keep_tasks``) tasks are deleted, listed or not. Ending drops the whole inbox; ``next_execution`` keeps what is not scoped to the
      old execution and drops the old history.
    * ``snapshot`` replaces the stored snapshot of an entity (b"" deletes it).
    * ``problem`` is shown on the record until the next accepted commit (None: no problem).
    * ``obituaries`` replaces the set of messages that the hub delivers if the instance is removed by anything but its own commit (None:
      unchanged).
    * ``control_only``: control messages were applied, and nothing that the instance is kept from was run. Parking, back-off, a delayed
      start and the problem stay, and so does the attempt count, but for the attempt that this claim counted: that is taken back, unless
      ``hold_us`` keeps the lease (until a ``Release``, say). The instance is not claimed again: what is due is left to the next claim.
      ``REJECTED`` with an ending, with ``next_execution``, and with ``append`` while the ``start`` is still to come.

    ``FENCED`` changes nothing; an ended instance fences everything. ``GONE``: the instance does not exist. ``ALREADY_APPLIED``:
    ``commit_id`` is the last accepted commit of the instance; if that left the instance claimed by ``worker``, the outcome carries its
    due messages again.
    """

    instance: str
    execution: str
    epoch: int
    version: int
    worker: str
    commit_id: str
    append: bytes | None = None
    append_count: int = 0
    consumes: tuple[str, ...] = ()
    settles: tuple[str, ...] = ()
    tasks: tuple[NewTask, ...] = ()
    cancel_tasks: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    creates: tuple[CreateInstance, ...] = ()
    timers: tuple[Message, ...] = ()
    cancel_timers: tuple[str, ...] = ()
    record: RecordUpdate | None = None
    snapshot: bytes | None = None
    next_execution: NextExecution | None = None
    keep_tasks: bool = False
    obituaries: tuple[Message, ...] | None = None
    problem: str | None = None
    hold_us: int = 0
    control_only: bool = False


class CompleteTask(Struct, frozen=True, gc=False):
    """An activity has ended: delete the task and put ``message`` (id = the task's id, scoped to its execution) into its instance's inbox.

    ``GONE`` if there is no such task: completed before, settled, cancelled. An ended or replaced target drops the message; the task is
    deleted all the same (``OK``).
    """

    task: str
    message: Message


class ReleaseTask(Struct, frozen=True, gc=False):
    """Give a leased task back: it is free at once. ``delivery`` is the ``ClaimedTask.attempt`` of the lease; ``uncount`` takes it back.

    ``GONE`` if there is no such task, or it was cancelled (its row is then deleted). ``ALREADY_APPLIED`` if it is free. ``FENCED`` if it is
    leased to another worker, or under another delivery.
    """

    task: str
    worker: str
    delivery: int
    uncount: bool = False


class Release(Struct, frozen=True, gc=False):
    """Give a claimed or held instance back without a commit. ``FENCED`` if (``execution``, ``epoch``) is not current, ``GONE`` if there
    is no instance, ``ALREADY_APPLIED`` if it is free.

    ``problem`` is shown on the record until the next accepted commit; ``delay_us`` is the back-off before it is claimable again, from
    now; ``park`` makes it unclaimable, except by control messages, until the next accepted commit. ``uncount`` takes back the attempt
    that the claim counted. Control messages that were handed out are to be consumed first: they override parking and back-off at once.
    """

    instance: str
    execution: str
    epoch: int
    problem: str | None = None
    delay_us: int = 0
    park: bool = False
    uncount: bool = False


class Purge(Struct, frozen=True, gc=False):
    """Remove every trace of an instance. ``REJECTED`` unless it has ended or ``force`` is given (obituaries are then delivered); ``GONE``
    if missing.

    ``idle_version``: instead, whatever its status, only if its ``version`` is this one and its inbox is empty, messages that are not yet
    visible included; otherwise ``FENCED``. So what has nothing to keep is removed without losing a message that arrives meanwhile.

    Later commits say ``GONE`` and never resurrect it: epochs come from a hub-wide counter that outlives purges.
    """

    instance: str
    force: bool = False
    idle_version: int | None = None


class AbandonWorker(Struct, frozen=True, gc=False):
    """This incarnation is over: its leases are free at once. ``OK``, ``ALREADY_APPLIED`` if it was given up before, ``GONE`` if
    unknown."""

    worker: str


Command = CreateInstance | SendMessage | CommitTurn | CompleteTask | ReleaseTask | Release | Purge | AbandonWorker


class OutcomeStatus(enum.Enum):
    OK = "ok"
    ALREADY_APPLIED = "already_applied"
    FENCED = "fenced"
    EXISTS = "exists"
    ENDED = "ended"
    GONE = "gone"
    REJECTED = "rejected"
    """This command cannot be applied; ``error`` says why. The others of its batch were."""


class Outcome(Struct, frozen=True, gc=False):
    """The answer to one command; ``messages`` and ``more`` belong to an accepted ``CommitTurn``, ``turn`` to a ``CreateInstance`` with a
    worker."""

    status: OutcomeStatus
    messages: tuple[Message, ...] = ()
    more: bool = False
    turn: ClaimedTurn | None = None
    error: DurableError | None = None


# ── what is leased ────────────────────────────────────────────────────────────────────────────────────────────


class Selectors(Struct, frozen=True, gc=False):
    """What a worker knows, by name; entities by lower-cased entity name. Nobody is handed what it does not know."""

    orchestrators: frozenset[str] = frozenset()
    activities: frozenset[str] = frozenset()
    entities: frozenset[str] = frozenset()


class InstanceFacts(Struct, frozen=True, gc=False, omit_defaults=True):
    """What whoever leases, reads or keeps an instance knows of it.

    ``version`` counts accepted commits; ``history_length`` events. ``updated_us`` is when something shown here last changed.
    """

    instance: str
    execution: str
    name: str
    status: InstanceStatus
    created_us: int
    updated_us: int
    version: int = 0
    history_length: int = 0
    attempt: int = 0
    parked: bool = False
    problem: str | None = None
    parent: ParentRef | None = None


class ClaimedTurn(InstanceFacts, frozen=True):
    """A lease on an instance.

    ``messages`` are due and unconsumed, in order; at most ``Capabilities.messages_per_claim``, and every control message beyond (``more``
    says whether there were more than that: they come with the commit's outcome). ``start`` is the first message of an execution whose
    history is still empty. ``attempt`` counts claims since the last accepted commit, this one included; a claim by the holder of a held
    instance counts none. ``snapshot`` is an entity's. ``control_only``: due control messages alone made it claimable (it is suspended,
    parked, backing off, delayed, or its name is not selected): apply those; the other messages and the ``start`` have to wait.
    """

    epoch: int = 0
    messages: tuple[Message, ...] = ()
    more: bool = False
    start: bytes | None = None
    snapshot: bytes | None = None
    control_only: bool = False


class ClaimedTask(Struct, frozen=True, gc=False):
    """A lease on an activity task; ``attempt`` counts its claims, this one included. (A task that was claimed in the commit that created it
    has had one.) What a ``ReleaseTask`` took back does not count."""

    id: str
    instance: str
    execution: str
    name: str
    payload: bytes
    attempt: int


class Claim(Struct, frozen=True, gc=False):
    """``next_due_us`` is the hub time at which something not claimable now may become so, for any worker: maybe too early, never too late
    (None: nothing scheduled)."""

    turns: tuple[ClaimedTurn, ...]
    tasks: tuple[ClaimedTask, ...]
    now_us: int
    next_due_us: int | None = None


class Heartbeat(Struct, frozen=True, gc=False):
    """``alive`` is False if this incarnation was given up as dead within the dedup window: its leases are gone and it must not be used
    again. ``cancelled`` are tasks leased by it that were cancelled; each is told once."""

    now_us: int
    alive: bool
    cancelled: tuple[str, ...] = ()


class Wakeup(Struct, frozen=True, gc=False):
    """A hint that something changed: work may be claimable, or (``ended``) somebody's waiting may be over."""

    ended: bool = False


# ── what is read ──────────────────────────────────────────────────────────────────────────────────────────────


class InstanceRecord(InstanceFacts, frozen=True):
    """``start`` is the opaque first message of the current execution (the engine finds the input in it)."""

    start: bytes = b""
    custom_status: bytes | None = None
    output: bytes | None = None
    failure: bytes | None = None
    snapshot: bytes | None = None


class InstanceFilter(Struct, frozen=True, gc=False):
    """All given conditions hold. Ranges are half-open ``[from, to)`` in hub microseconds. ``entities`` chooses between the two kinds of
    instance."""

    statuses: frozenset[InstanceStatus] | None = None
    name: str | None = None
    id_prefix: str | None = None
    parent: str | None = None
    created_from_us: int | None = None
    created_to_us: int | None = None
    updated_from_us: int | None = None
    updated_to_us: int | None = None
    entities: bool = False


class Page(Struct, frozen=True, gc=False):
    """``cursor`` continues after the last record; None at the end."""

    records: tuple[InstanceRecord, ...]
    cursor: str | None


class HistoryRange(Struct, frozen=True, gc=False):
    """Rows of an execution's history from event number ``first`` on (0 is the first event; must be the start of a row).

    ``execution`` None is the current one. At least one row is returned if there is any; further ones while they fit into ``max_bytes``.
    """

    instance: str
    execution: str | None = None
    first: int = 0
    max_bytes: int = 4 << 20


class HistoryRow(Struct, frozen=True, gc=False):
    """The events of one turn: numbers ``first`` to ``first + count - 1``."""

    first: int
    count: int
    payload: bytes


class HistoryPage(Struct, frozen=True, gc=False):
    """``next`` is the ``first`` of the following page, None at the end. A missing instance or execution is an empty page."""

    rows: tuple[HistoryRow, ...]
    next: int | None = None


# ── the protocol ──────────────────────────────────────────────────────────────────────────────────────────────


class Capabilities(Struct, frozen=True, gc=False):
    """What a store can do. Declared ones are tested; undeclared ones must refuse."""

    durability: Literal["none", "process", "disk", "replicated"]
    """What an acknowledged write survives: nothing, a killed process, a power failure, a lost machine."""
    multi_process: bool
    """Several processes may open the same store."""
    proves_death: bool
    """A killed incarnation's leases are free at once, not only when its heartbeat runs out."""
    max_payload_bytes: int = 256 << 20
    """The hard limit of one payload: a message, a task, all events of a turn. A larger one is ``REJECTED`` with ``PayloadTooLargeError``."""
    max_batch: int = 1_000
    """The engine's batches are no larger. ``apply`` takes larger ones, too."""
    messages_per_claim: int = 1_000
    dedup_window_us: int = 3_600_000_000


class Backend(Protocol):
    """A handle on a store. All methods may be called concurrently from one event loop after ``open``, and raise ``EngineStateError``
    before it and after ``close``. A closed handle may be opened again. A call that is cancelled may still take effect.

    A transient trouble is ``StoreUnavailableError`` and may be retried; any other ``StoreError`` needs a person. Wherever a reply is lost
    the caller submits the same commands again.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    async def open(self, *, create: bool = True) -> None:
        """Connect, check that the store is ours and its version known, migrate it. ``create=False``: a missing store is a
        ``StoreFormatError``."""

    async def close(self) -> None:
        """Release everything, once the calls under way have ended; idempotent. Leases stay (``AbandonWorker`` gives them back)."""

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        """Make every write of the batch durable, then return one outcome per command, in order. A batch that fails as a whole raises and
        wrote nothing, or its outcome is unknown (``StoreUnavailableError``): submit it again."""
        ...

    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: Selectors) -> Claim:
        """Lease up to ``turns`` instances and ``tasks`` tasks to a live ``worker``, oldest due first.

        Claimable is an instance that has not ended, has a due message (or its ``start``), whose name ``selectors`` admit, that is not
        suspended, parked or backing off, and that is free, or held by this worker, or whose hold is over, or held by another although a
        due message has waited for a second. An instance is *claimed* from a claim (or a commit whose outcome carried messages) until the
        next commit or release: nobody is handed it then, its holder included, while that incarnation lives. It is *held* after a commit
        with ``hold_us``. A due control message overrides name, suspension, parking and back-off, not leases. A claim that is not the
        holder's own raises the epoch and counts an attempt. Instances whose attempt would be above 1 are suspects: one is returned only
        as the single turn of its claim. A worker that is unknown or given up gets nothing.

        Claimable is a task that nobody leases and whose name is selected. A task whose ``attempt`` would be above ``DELIVERIES_IN_COMPANY``
        is a suspect: perhaps it killed its workers, or it died with those that others killed. If it is the oldest one it is returned alone,
        without another task and without turns; until then it is passed over.

        A repeated ``claim_id`` returns those of its items that are still out. It is known until the worker's next claim that leases
        something; one that leased nothing is not remembered.
        """
        ...

    async def heartbeat(self, worker: str, *, ttl_us: int) -> Heartbeat:
        """Register the incarnation, or keep it alive for ``ttl_us`` from now. Also gives up *other* incarnations whose time was over already
        at this worker's beat before and frees their leases (a late beat of its own still saves an incarnation that nobody gave up). Time in
        which nobody could reach the store counts against nobody: a beat of a worker whose own time is over, and the first one of a worker
        where nobody else has beaten lately, gives everybody ``ttl_us`` from now instead.

        A beat is answered, or fails, well within ``ttl_us``, so that one that hangs does not cost the lease."""
        ...

    async def get_instances(self, ids: Sequence[str]) -> list[InstanceRecord | None]: ...

    async def query_instances(self, filter: InstanceFilter, *, limit: int, cursor: str | None = None) -> Page:
        """In order of (created, id), both immutable: what matches throughout is returned exactly once, whatever else changes."""
        ...

    async def read_history(self, ranges: Sequence[HistoryRange]) -> list[HistoryPage]: ...

    def wakeups(self) -> AsyncIterator[Wakeup]:
        """Hints, lossy and duplicable. Ends when the handle is closed."""
        ...
