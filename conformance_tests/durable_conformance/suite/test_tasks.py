"""Activity tasks: creating, claiming, completing, settling, cancelling."""

from __future__ import annotations

from durable_conformance.driver import HOUR_US, Driver, after, ended, status_of
from durable_conformance.properties import Property, proves
from durable_core.backend import AbandonWorker, InstanceStatus, OutcomeStatus, RecordUpdate, ReleaseTask, Selectors


@proves(Property.LEASE)
async def test_an_open_task_is_claimed_once(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t", payload=b'"in"'),))
    await hub.register("w2")
    (task,) = (await hub.claim("w2")).tasks
    assert (task.id, task.instance, task.execution, task.name, task.payload, task.attempt) == ("t", "i", turn.execution, "act", b'"in"', 1)
    assert (await hub.claim("w")).tasks == (await hub.claim("w2")).tasks == ()


@proves(Property.LEASE)
async def test_a_task_claimed_in_its_commit_is_nobody_elses(hub: Driver) -> None:
    await hub.running(tasks=(hub.task("t", claim=True),))
    await hub.register("w2")
    assert (await hub.claim("w2")).tasks == (await hub.claim("w")).tasks == ()


@proves(Property.PROGRESS)
async def test_a_worker_that_is_not_registered_cannot_claim_in_its_commit(hub: Driver) -> None:
    turn = await hub.started()
    await hub.commit(turn, "stranger", tasks=(hub.task("t", claim=True),))
    assert [task.id for task in (await hub.claim()).tasks] == ["t"]


@proves(Property.PROGRESS)
async def test_tasks_are_claimed_by_name_oldest_first(hub: Driver) -> None:
    names = ["act", "unknown", "slow", "act", "unknown", "slow"]
    await hub.running(tasks=tuple(hub.task(f"t{number}", name=name) for number, name in enumerate(names)))
    only = await hub.claim(tasks=2, selectors=Selectors(activities=frozenset({"slow"})))
    assert [task.id for task in only.tasks] == ["t2", "t5"]
    assert [task.id for task in (await hub.claim(tasks=5)).tasks] == ["t0", "t3"]


@proves(Property.CONSERVATION)
async def test_a_completion_deletes_the_task_and_reaches_the_instance(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    completion = hub.completion("t", turn)
    assert status_of(await hub.apply(completion, completion)) == [OutcomeStatus.OK, OutcomeStatus.GONE]
    assert (await hub.claim()).tasks == ()
    await hub.send("i")


@proves(Property.CONSERVATION)
async def test_the_completion_of_an_unclaimed_task_is_accepted(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    completion = hub.completion("t", turn)
    await hub.one(completion)
    assert (await hub.claimed()).messages == (completion.message,)


@proves(Property.CONSERVATION)
async def test_settling_deletes_the_task_whoever_leases_it(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("mine", claim=True), hub.task("theirs"), hub.task("open", name="unknown")))
    await hub.register("w2")
    assert len((await hub.claim("w2")).tasks) == 1
    await hub.commit(turn, settles=("mine", "theirs", "open"))
    for task in ("mine", "theirs", "open"):
        assert (await hub.one(hub.completion(task, turn))).status is OutcomeStatus.GONE


@proves(Property.CONSERVATION)
async def test_settling_leaves_live_events_alone(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"), hub.task("done")))
    await hub.one(hub.completion("done", turn))
    event = await hub.send("i", b"event")
    outcome = await hub.commit(turn, settles=("t", "done"))
    assert outcome.messages == (event,)


@proves(Property.CONSERVATION)
async def test_settling_deletes_an_undelivered_completion(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    await hub.one(hub.completion("t", turn))
    outcome = await hub.commit(turn, settles=("t",))
    assert outcome.messages == ()
    assert (await hub.claim()).turns == ()


@proves(Property.CONSERVATION)
async def test_settling_what_is_not_there_is_fenced(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    other = await hub.running("j", tasks=(hub.task("of j"),))
    for settles in (("unknown",), ("t", "unknown"), ("t", "t"), ("of j",)):
        assert (await hub.one(hub.turn(turn, settles=settles))).status is OutcomeStatus.FENCED, settles
    await hub.commit(turn, settles=("t",))
    assert (await hub.one(hub.turn(after(turn), settles=("t",)))).status is OutcomeStatus.FENCED
    await hub.commit(other, settles=("of j",))


@proves(Property.CONSERVATION)
async def test_creating_or_settling_and_cancelling_leaves_nothing(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    await hub.commit(turn, settles=("t",), tasks=(hub.task("u"),), cancel_tasks=("t", "u"))
    assert (await hub.claim()).tasks == ()


@proves(Property.CONSERVATION)
async def test_cancelling_removes_an_unstarted_task_and_its_completion(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"), hub.task("done")))
    await hub.one(hub.completion("done", turn))
    outcome = await hub.commit(turn, cancel_tasks=("t", "done", "unknown"))
    assert outcome.messages == ()
    claim = await hub.claim()
    assert (claim.turns, claim.tasks) == ((), ())


@proves(Property.PROGRESS)
async def test_a_task_that_is_given_back_is_free_at_once(hub: Driver) -> None:
    await hub.running(tasks=(hub.task("mine", claim=True), hub.task("claimed")))
    await hub.register("w2")
    (claimed,) = (await hub.claim()).tasks
    assert status_of(await hub.apply(ReleaseTask("mine", "w", 1), ReleaseTask("claimed", "w", claimed.attempt))) == [OutcomeStatus.OK] * 2
    assert [task.id for task in (await hub.claim("w2")).tasks] == ["mine", "claimed"]


@proves(Property.LEASE)
async def test_a_task_is_given_back_under_its_very_lease(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    await hub.register("w2")
    assert (await hub.one(ReleaseTask("t", "w", 0))).status is OutcomeStatus.ALREADY_APPLIED, "it is free"
    assert len((await hub.claim("w2")).tasks) == 1
    for late in (ReleaseTask("t", "w", 1), ReleaseTask("t", "w2", 2), ReleaseTask("t", "w2", 0)):
        assert (await hub.one(late)).status is OutcomeStatus.FENCED, late
    assert (await hub.claim()).tasks == (), "it is still leased"
    assert (await hub.one(hub.completion("t", turn))).status is OutcomeStatus.OK
    assert (await hub.one(ReleaseTask("t", "w2", 1))).status is OutcomeStatus.GONE


@proves(Property.RETRY)
async def test_giving_a_task_back_again_spares_a_later_lease(hub: Driver) -> None:
    await hub.running(tasks=(hub.task("t", claim=True),))
    await hub.register("w2")
    release = ReleaseTask("t", "w", 1, uncount=True)
    assert status_of(await hub.apply(release, release)) == [OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED]
    assert [task.attempt for task in (await hub.claim("w2")).tasks] == [1]
    assert (await hub.one(release)).status is OutcomeStatus.FENCED
    assert (await hub.claim()).tasks == ()


@proves(Property.ATTEMPTS)
async def test_the_deliveries_of_a_task_are_counted_unless_they_are_taken_back(hub: Driver) -> None:
    await hub.running(tasks=(hub.task("t"),))
    for number in (1, 2):
        assert [task.attempt for task in (await hub.claim()).tasks] == [number]
        await hub.one(ReleaseTask("t", "w", number))
    for _ in range(2):
        assert [task.attempt for task in (await hub.claim()).tasks] == [3]
        await hub.one(ReleaseTask("t", "w", 3, uncount=True))


@proves(Property.PROGRESS)
async def test_a_task_that_died_twice_is_handed_out_alone_and_before_turns(hub: Driver) -> None:
    """The first two deliveries are like any other's. Then it goes alone as soon as it is the oldest, and those behind it are not held up."""
    await hub.running(tasks=(hub.task("first"), hub.task("suspect"), hub.task("last")))
    await hub.create("waiting")
    for number in (1, 2):
        claim = await hub.claim(turns=0)
        assert [(task.id, task.attempt) for task in claim.tasks] == [("first", number), ("suspect", number), ("last", number)]
        await hub.apply(*(ReleaseTask(id, "w", number, uncount=id != "suspect" and number == 2) for id in ("first", "suspect", "last")))
    (first, last) = (await hub.claim(turns=0)).tasks
    assert (first.id, last.id) == ("first", "last"), "the suspect is not the oldest yet"
    claim = await hub.claim()
    assert ([turn.instance for turn in claim.turns], [(task.id, task.attempt) for task in claim.tasks]) == ([], [("suspect", 3)])
    await hub.claimed("waiting")
    await hub.apply(*(ReleaseTask(task.id, "w", task.attempt) for task in (first, last, claim.tasks[0])))
    for expected in (("first", 3), ("suspect", 4), ("last", 3)):
        assert [(task.id, task.attempt) for task in (await hub.claim()).tasks] == [expected]


@proves(Property.CONSERVATION)
async def test_a_cancelled_task_that_is_given_back_is_gone(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    await hub.register("w2")
    await hub.claim("w2")
    await hub.commit(turn, cancel_tasks=("t",))
    assert (await hub.one(ReleaseTask("t", "w2", 1))).status is OutcomeStatus.GONE
    assert (await hub.backend.heartbeat("w2", ttl_us=HOUR_US)).cancelled == ()
    assert (await hub.claim()).tasks == ()


@proves(Property.CONSERVATION)
async def test_a_running_task_is_cancelled_by_heartbeat_once(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"), hub.task("u")))
    await hub.register("w2")
    assert len((await hub.claim("w2")).tasks) == 2
    await hub.commit(turn, cancel_tasks=("t",))
    assert (await hub.backend.heartbeat("w", ttl_us=HOUR_US)).cancelled == ()
    assert (await hub.backend.heartbeat("w2", ttl_us=HOUR_US)).cancelled == ("t",)
    assert (await hub.backend.heartbeat("w2", ttl_us=HOUR_US)).cancelled == ()
    assert status_of(await hub.apply(hub.completion("t", turn), hub.completion("u", turn))) == [OutcomeStatus.GONE, OutcomeStatus.OK]


@proves(Property.CONSERVATION)
async def test_a_cancelled_task_that_completes_first_is_gone(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    await hub.register("w2")
    await hub.claim("w2")
    await hub.commit(turn, cancel_tasks=("t",))
    assert (await hub.one(hub.completion("t", turn))).status is OutcomeStatus.GONE
    assert (await hub.backend.heartbeat("w2", ttl_us=HOUR_US)).cancelled == ()
    assert (await hub.claim()).turns == ()


@proves(Property.CONSERVATION)
async def test_a_cancelled_task_dies_with_its_worker(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    await hub.register("w2")
    await hub.claim("w2")
    await hub.commit(turn, cancel_tasks=("t",))
    await hub.one(AbandonWorker("w2"))
    assert (await hub.claim()).tasks == ()
    assert (await hub.one(hub.completion("t", turn))).status is OutcomeStatus.GONE


@proves(Property.GENERATIONS)
async def test_an_end_leaves_the_tasks_of_an_earlier_execution(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("orphan"),))
    await hub.commit(turn, record=ended(), keep_tasks=True)
    await hub.create("i", reuse="replace_ended")
    second = await hub.claimed()
    await hub.commit(second, tasks=(hub.task("mine"),))
    await hub.commit(after(second), record=ended())
    assert [task.id for task in (await hub.claim()).tasks] == ["orphan"]


@proves(Property.GENERATIONS)
async def test_the_task_of_a_replaced_execution_is_completed_without_effect(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    await hub.commit(turn, record=ended(), keep_tasks=True)
    await hub.create("i", reuse="replace_ended")
    assert [task.id for task in (await hub.claim(turns=0)).tasks] == ["t"], "an orphan still runs"
    assert (await hub.one(hub.completion("t", turn))).status is OutcomeStatus.OK
    assert (await hub.claimed()).messages == ()


@proves(Property.CONSERVATION)
async def test_a_suspended_instance_takes_completions(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),), record=RecordUpdate(status=InstanceStatus.SUSPENDED))
    assert (await hub.one(hub.completion("t", turn))).status is OutcomeStatus.OK
    assert (await hub.claim()).turns == ()
