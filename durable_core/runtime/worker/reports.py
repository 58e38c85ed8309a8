"""What the log says of the work: failures, ends, and what is taken over. A line each; nothing is logged for what succeeds but at DEBUG.

The worker that runs an activity does not know what comes of its failure: that the orchestrator decides, and says so itself
(``replay/calls.py``), not while it replays.
"""

from __future__ import annotations

import logging
from collections import Counter

from durable_core.backend import ENDED, ClaimedTask, ClaimedTurn, CommitTurn, InstanceStatus
from durable_core.codec import decode_event
from durable_core.errors import FailureDetails
from durable_core.failures import DescribedElsewhere
from durable_core.runtime.worker.live import LiveInstance, TaskLease

_engine = logging.getLogger("durable_core.engine")
_activity = logging.getLogger("durable_core.activity")
_orchestrator = logging.getLogger("durable_core.orchestrator")
_TRACES = 3


class FailureReports:
    """Of one worker's activities. A traceback comes with the first failures of an activity by one type of exception; with all of them at DEBUG. So a wide
    fan-out that fails is a line an activity, and no more."""

    def __init__(self) -> None:
        self._traced: Counter[tuple[str, type]] = Counter()

    def failed(self, lease: TaskLease, error: BaseException, failure: FailureDetails) -> None:
        name, task, attempt = lease.bound.name, lease.task, lease.scheduled.attempt
        logger = _activity.getChild(name)
        key = name, type(error)
        self._traced[key] += 1
        traced = self._traced[key] <= _TRACES or logger.isEnabledFor(logging.DEBUG)
        elsewhere = traced and isinstance(error, DescribedElsewhere)
        logger.warning(
            "activity %r of %r failed (attempt %d, delivery %d): %s; its orchestrator is told, and decides what happens next%s",
            name,
            task.instance,
            attempt,
            task.attempt,
            failure,
            f"\n{failure.stack}" if elsewhere else "",
            exc_info=error if traced and not elsewhere else None,
            extra={"instance_id": task.instance, "activity": name, "attempt": attempt, "delivery": task.attempt},
        )


def report_end(live: LiveInstance, commit: CommitTurn, *, is_child: bool) -> None:
    """A child's failure is its parent's to handle."""
    record = commit.record
    status = record.status if record is not None else None
    if record is None or status is None or status not in ENDED:
        return
    failed = status is InstanceStatus.FAILED
    level = (logging.WARNING if is_child else logging.ERROR) if failed else logging.DEBUG
    logger = _orchestrator.getChild(live.name)
    if logger.isEnabledFor(level):
        failure = record.failure if failed else None
        why = f": {decode_event(failure, 0).failure}" if failure is not None else ""
        extra = {"instance_id": live.instance, "orchestrator": live.name}
        logger.log(level, "orchestration %r (%s) is %s%s", live.instance, live.name, status.value, why, extra=extra)


def report_takeover(claimed: ClaimedTurn) -> None:
    """It was claimed before, and nothing was committed."""
    text = "%r is taken over: a worker has begun its turn and not ended it (attempt %d)"
    _engine.warning(text, claimed.instance, claimed.attempt, extra={"instance_id": claimed.instance})


def report_delivery(task: ClaimedTask) -> None:
    if task.attempt > 1:
        text = "activity %r of %r is taken over: a worker has begun it and not ended it (delivery %d)"
        extra = {"instance_id": task.instance, "activity": task.name, "delivery": task.attempt}
        _engine.warning(text, task.name, task.instance, task.attempt, extra=extra)
