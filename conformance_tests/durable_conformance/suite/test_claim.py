"""Leases: who is handed what, holding, stealing, attempts, releases, dead workers."""

from __future__ import annotations

import pytest

from durable_conformance.driver import ALL, HOUR_US, SECOND_US, Driver, after
from durable_conformance.properties import Property, proves, proving, requires
from durable_core.backend import AbandonWorker, InstanceStatus, OutcomeStatus, RecordUpdate, Release, Selectors, SendMessage


@proves(Property.LEASE)
async def test_a_claimed_instance_is_handed_to_nobody_else(hub: Driver) -> None:
    await hub.started()
    await hub.register("w2")
    await hub.send()
    assert (await hub.claim("w2")).turns == ()
    assert (await hub.claim("w")).turns == ()


@proves(Property.LEASE)
async def test_an_unknown_worker_gets_nothing(hub: Driver) -> None:
    await hub.create()
    claim = await hub.claim("nobody")
    assert (claim.turns, claim.tasks) == ((), ())


@proves(Property.PROGRESS)
async def test_only_known_names_are_handed_out(hub: Driver) -> None:
    await hub.register()
    for number in range(20):
        await hub.create(f"a stranger {number}", name="unheard of")
    await hub.create("mine")
    claim = await hub.claim(turns=5, selectors=Selectors(frozenset({"orch"})))
    assert [turn.instance for turn in claim.turns] == ["mine"]
    assert (await hub.claim(selectors=Selectors(activities=frozenset({"orch"}), entities=frozenset({"orch", "unheard of"})))).turns == ()


@proves(Property.PROGRESS)
@requires("frozen_clock")
async def test_those_that_waited_longest_come_first(hub: Driver) -> None:
    await hub.register()
    for number in range(9, -1, -1):
        await hub.create(f"i{number}", name="orch" if number % 2 else "other")
        hub.harness.advance_clock(10)
    claims = [await hub.claim(turns=4), await hub.claim(turns=4), await hub.claim(turns=4)]
    assert [turn.instance for claim in claims for turn in claim.turns] == [f"i{number}" for number in range(9, -1, -1)]


@proves(Property.RETRY)
async def test_a_repeated_claim_returns_the_same_items(hub: Driver) -> None:
    turn = await hub.running("parent", tasks=(hub.task("t"),))
    await hub.create("i")
    first = await hub.claim(claim_id="again")
    assert ([turn.instance for turn in first.turns], [task.id for task in first.tasks]) == (["i"], ["t"])
    await hub.create("j")
    again = await hub.claim(claim_id="again")
    assert (again.turns, again.tasks) == (first.turns, first.tasks)
    with proving(Property.LEASE):
        assert [turn.instance for turn in (await hub.claim()).turns] == ["j"]
    assert turn.instance == "parent"


@proves(Property.ATTEMPTS)
async def test_attempts_are_counted_until_a_commit(hub: Driver) -> None:
    turn = await hub.started()
    for attempt in (1, 2, 3):
        assert turn.attempt == attempt
        assert (await hub.existing()).attempt == attempt
        await hub.one(Release("i", turn.execution, turn.epoch, problem="crashed"))
        turn = await hub.claimed()
    assert (await hub.existing()).problem == "crashed"
    await hub.commit(turn, hold_us=0)
    record = await hub.existing()
    assert (record.attempt, record.problem) == (0, None)
    await hub.send()
    assert (await hub.claimed()).attempt == 1


@proves(Property.ATTEMPTS)
async def test_an_uncounted_release_takes_the_attempt_back(hub: Driver) -> None:
    turn = await hub.started()
    await hub.one(Release("i", turn.execution, turn.epoch, uncount=True))
    assert (await hub.claimed()).attempt == 1


@proves(Property.PROGRESS)
async def test_a_suspect_is_handed_out_alone(hub: Driver) -> None:
    await hub.register()
    for instance in ("a", "b", "c"):
        await hub.create(instance)
    for turn in (await hub.claim()).turns:
        await hub.one(Release(turn.instance, turn.execution, turn.epoch))
    seen = [[turn.instance for turn in (await hub.claim()).turns] for _ in range(4)]
    assert sorted(seen) == [[], ["a"], ["b"], ["c"]]


@requires("frozen_clock")
@proves(Property.TIMERS)
async def test_a_release_backs_off(hub: Driver) -> None:
    turn = await hub.started()
    await hub.one(Release("i", turn.execution, turn.epoch, delay_us=SECOND_US))
    claim = await hub.claim()
    assert (claim.turns, claim.next_due_us) == ((), claim.now_us + SECOND_US)
    hub.harness.advance_clock(SECOND_US)
    await hub.claimed()


@proves(Property.FENCE)
async def test_a_release_needs_the_epoch(hub: Driver) -> None:
    turn = await hub.started()
    assert (await hub.one(Release("i", turn.execution, turn.epoch + 1))).status is OutcomeStatus.FENCED
    assert (await hub.one(Release("i", "x", turn.epoch))).status is OutcomeStatus.FENCED
    assert (await hub.one(Release("x", turn.execution, turn.epoch))).status is OutcomeStatus.GONE
    assert (await hub.claim()).turns == ()


@proves(Property.PROGRESS)
async def test_a_parked_instance_waits_for_a_control_message(hub: Driver) -> None:
    turn = await hub.started()
    await hub.one(Release("i", turn.execution, turn.epoch, park=True, problem="poison"))
    await hub.send("i")
    assert (await hub.claim()).turns == ()
    record = await hub.existing()
    assert (record.parked, record.problem) == (True, "poison")
    await hub.send("i", b'"terminate"', control=True)
    claimed = await hub.claimed()
    assert claimed.control_only
    assert [message.control for message in claimed.messages] == [False, True]
    await hub.commit(claimed)
    assert not (await hub.existing()).parked


@proves(Property.PROGRESS)
async def test_control_messages_alone_override_nothing(hub: Driver) -> None:
    """A commit of theirs keeps parking, back-off and problem, and who holds the instance for it gives it back by a release."""
    await hub.running(hold_us=0)
    await hub.send("i")
    turn = await hub.claimed()
    await hub.one(Release("i", turn.execution, turn.epoch, park=True, problem="poison"))
    before = await hub.existing()
    for status in (InstanceStatus.SUSPENDED, InstanceStatus.RUNNING):
        _, control = await hub.send("i"), await hub.send("i", b'"control"', control=True)
        claimed = await hub.claimed()
        assert claimed.control_only
        changes = RecordUpdate(status=status)
        outcome = await hub.commit(claimed, consumes=(control.id,), record=changes, control_only=True, hold_us=0)
        assert outcome.messages == ()
        record = await hub.existing()
        assert (record.status, record.parked, record.problem) == (status, True, "poison")
        with proving(Property.ATTEMPTS):
            assert record.attempt == before.attempt
        assert (await hub.claim()).turns == ()

    await hub.send("i", control=True)
    claimed = await hub.claimed()
    control = claimed.messages[-1]
    await hub.commit(claimed, consumes=(control.id,), control_only=True)
    with proving(Property.ATTEMPTS):
        assert (await hub.existing()).attempt == before.attempt + 1
    await hub.one(Release("i", claimed.execution, claimed.epoch, uncount=True))
    with proving(Property.ATTEMPTS):
        assert (await hub.existing()).attempt == before.attempt


@requires("frozen_clock")
@proves(Property.PROGRESS)
async def test_a_delayed_start_that_was_suspended_keeps_its_delay(hub: Driver) -> None:
    await hub.register()
    await hub.create("i", delay_us=SECOND_US)
    for status in (InstanceStatus.SUSPENDED, InstanceStatus.PENDING):
        control = await hub.send("i", control=True)
        claimed = await hub.claimed()
        with proving(Property.HISTORY):
            refused = hub.turn(claimed, append=b"[1]", append_count=1, control_only=True)
            assert (await hub.one(refused)).status is OutcomeStatus.REJECTED
        await hub.commit(claimed, consumes=(control.id,), record=RecordUpdate(status=status), control_only=True, hold_us=0, append=None)
        assert (await hub.claim()).turns == ()
    hub.harness.advance_clock(SECOND_US)
    claimed = await hub.claimed()
    assert (claimed.status, claimed.attempt, claimed.control_only) == (InstanceStatus.PENDING, 1, False)
    assert claimed.start is not None


@proves(Property.PROGRESS)
async def test_a_suspended_instance_buffers_until_a_control_message(hub: Driver) -> None:
    turn = await hub.running(record=RecordUpdate(status=InstanceStatus.SUSPENDED), hold_us=0)
    event = await hub.send("i")
    assert (await hub.claim()).turns == ()
    resume = await hub.send("i", b'"resume"', control=True)
    claimed = await hub.claimed()
    assert (claimed.status, claimed.control_only) == (InstanceStatus.SUSPENDED, True)
    assert claimed.messages == (event, resume)
    outcome = await hub.commit(claimed, consumes=(resume.id,), record=RecordUpdate(status=InstanceStatus.RUNNING))
    assert outcome.messages == (event,)
    assert turn.instance == "i"


@proves(Property.PROGRESS)
async def test_a_held_suspended_instance_receives_its_control_messages(hub: Driver) -> None:
    turn = await hub.running(record=RecordUpdate(status=InstanceStatus.SUSPENDED))
    resume = await hub.send("i", b'"resume"', control=True)
    claimed = await hub.claimed()
    assert (claimed.messages, claimed.epoch) == ((resume,), turn.epoch)


@proves(Property.PROGRESS)
async def test_any_worker_may_apply_a_control_message(hub: Driver) -> None:
    await hub.register()
    await hub.create("i", name="unheard of")
    await hub.send("i", control=True)
    claimed = (await hub.claim(selectors=Selectors(frozenset({"orch"})))).turns
    assert [(turn.instance, turn.control_only) for turn in claimed] == [("i", True)]


@proves(Property.PROGRESS)
async def test_a_control_message_is_not_hidden_by_a_backlog(hub: Driver) -> None:
    await hub.running(hold_us=0)
    limit = hub.capabilities.messages_per_claim
    await hub.backend.apply([SendMessage(hub.message("i")) for _ in range(limit + 5)])
    last = await hub.send("i", b'"terminate"', control=True)
    claimed = await hub.claimed()
    assert claimed.more
    assert claimed.messages[-1] == last
    assert len(claimed.messages) == limit + 1


# ── holding ──────────────────────────────────────────────────────────────────────────────────────────────────────


@proves(Property.PROGRESS)
async def test_a_held_instance_still_receives_its_inbox(hub: Driver) -> None:
    turn = await hub.running()
    message = await hub.send()
    claimed = await hub.claimed()
    assert claimed.messages == (message,)
    with proving(Property.FENCE):
        assert (claimed.epoch, claimed.version) == (turn.epoch, turn.version)
    with proving(Property.ATTEMPTS):
        assert claimed.attempt == 0


@requires("frozen_clock")
@proves(Property.PROGRESS)
async def test_a_held_instance_is_stolen_when_it_has_waited_for_a_second(hub: Driver) -> None:
    turn = await hub.running()
    await hub.register("w2")
    await hub.send()
    claim = await hub.claim("w2")
    assert claim.turns == ()
    assert claim.next_due_us == claim.now_us + SECOND_US
    hub.harness.advance_clock(SECOND_US)
    stolen = await hub.claimed("i", "w2")
    with proving(Property.FENCE):
        assert stolen.epoch > turn.epoch
        assert (await hub.one(hub.turn(turn))).status is OutcomeStatus.FENCED


@requires("frozen_clock")
@proves(Property.PROGRESS)
async def test_a_hold_ends(hub: Driver) -> None:
    turn = await hub.started()
    await hub.commit(turn, hold_us=SECOND_US // 2)
    await hub.register("w2")
    await hub.send()
    claim = await hub.claim("w2")
    assert claim.next_due_us == claim.now_us + SECOND_US // 2
    hub.harness.advance_clock(SECOND_US // 2)
    assert (await hub.claimed("i", "w2")).attempt == 1


@proves(Property.PROGRESS)
async def test_a_turn_that_is_not_held_is_free_for_all(hub: Driver) -> None:
    turn = await hub.started()
    await hub.commit(turn, hold_us=0)
    await hub.register("w2")
    await hub.send()
    assert (await hub.claimed("i", "w2")).epoch > turn.epoch


# ── incarnations ─────────────────────────────────────────────────────────────────────────────────────────────────


@proves(Property.PROGRESS)
async def test_an_abandoned_worker_frees_its_leases(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t", claim=True), hub.task("u")))
    await hub.create("j")
    await hub.claimed("j")
    await hub.register("w2")
    assert [task.id for task in (await hub.claim("w2")).tasks] == ["u"]
    assert (await hub.one(AbandonWorker("w"))).status is OutcomeStatus.OK
    assert (await hub.one(AbandonWorker("w"))).status is OutcomeStatus.ALREADY_APPLIED
    assert (await hub.one(AbandonWorker("nobody"))).status is OutcomeStatus.GONE
    claim = await hub.claim("w2")
    assert [(task.id, task.attempt) for task in claim.tasks] == [("t", 2)]
    assert [(turn.instance, turn.attempt) for turn in claim.turns] == [("j", 2)]
    assert (await hub.backend.heartbeat("w", ttl_us=HOUR_US)).alive is False, "an incarnation does not come back"
    await hub.commit(turn, "w")  # nobody has claimed i since


@requires("frozen_clock")
@proves(Property.PROGRESS)
async def test_a_silent_worker_is_given_up(hub: Driver) -> None:
    await hub.register("w", ttl_us=10 * SECOND_US)
    await hub.create()
    await hub.claimed()
    await hub.register("w2")
    hub.harness.advance_clock(10 * SECOND_US - 1)
    await hub.register("w2")
    assert (await hub.claim("w2")).turns == ()
    hub.harness.advance_clock(1)
    await hub.register("w2")
    await hub.register("w2")
    assert (await hub.claimed("i", "w2")).attempt == 2
    assert (await hub.backend.heartbeat("w", ttl_us=HOUR_US)).alive is False


@requires("frozen_clock")
@proves(Property.LEASE)
async def test_an_outage_of_the_store_counts_against_nobody(hub: Driver) -> None:
    """Nobody could beat for an hour. Who beats first gives nobody up, and whoever does not come back is given up later."""
    await hub.running(tasks=(hub.task("t", claim=True),))
    for worker in ("w", "w2", "w3"):
        await hub.register(worker, ttl_us=10 * SECOND_US)
    hub.harness.advance_clock(HOUR_US)
    await hub.register("w2", ttl_us=10 * SECOND_US)
    assert (await hub.claim("w2")).tasks == (), "what the others do is not done again"
    hub.harness.advance_clock(9 * SECOND_US)
    for worker in ("w2", "w"):
        await hub.register(worker, ttl_us=10 * SECOND_US)
    with proving(Property.PROGRESS):
        for _ in range(2):
            hub.harness.advance_clock(SECOND_US)
            await hub.register("w2", ttl_us=10 * SECOND_US)
        assert (await hub.backend.heartbeat("w3", ttl_us=HOUR_US)).alive is False


@requires("frozen_clock")
@proves(Property.LEASE)
async def test_an_outage_shorter_than_a_lease_counts_against_nobody(hub: Driver) -> None:
    """Who beat last before it is in time after it, and the others are not."""
    await hub.running(tasks=(hub.task("t", claim=True),))
    await hub.register("w", ttl_us=10 * SECOND_US)
    hub.harness.advance_clock(SECOND_US)
    await hub.register("w2", ttl_us=10 * SECOND_US)
    hub.harness.advance_clock(9 * SECOND_US + 1)
    await hub.register("w2", ttl_us=10 * SECOND_US)
    assert (await hub.claim("w2")).tasks == ()
    await hub.register("w", ttl_us=10 * SECOND_US)


@requires("frozen_clock")
@proves(Property.LEASE)
async def test_a_late_beat_saves_a_worker_that_nobody_gave_up(hub: Driver) -> None:
    await hub.register("w", ttl_us=SECOND_US)
    hub.harness.advance_clock(HOUR_US)
    assert (await hub.backend.heartbeat("w", ttl_us=SECOND_US)).alive


@requires("many_handles", "proves_death")
@proves(Property.PROGRESS)
async def test_a_killed_handle_frees_its_leases_at_once(hub: Driver) -> None:
    other = await hub.harness.open()
    await hub.register("other", on=other)
    await hub.register("w")
    await hub.create()
    turn = await hub.claimed("i", "other", on=other)
    await hub.commit(turn, "other", tasks=(hub.task("t", claim=True),), hold_us=HOUR_US)
    await hub.create("j")
    await hub.claimed("j", "other", on=other)
    await hub.send("i")
    assert (await hub.claim("w")).turns == ()
    await hub.harness.kill(other)
    claims = [await hub.claim("w"), await hub.claim("w")]
    assert sorted((turn.instance, turn.attempt) for claim in claims for turn in claim.turns) == [("i", 1), ("j", 2)]
    assert [(task.id, task.attempt) for claim in claims for task in claim.tasks] == [("t", 2)]


@requires("many_handles")
@proves(Property.LEASE)
async def test_handles_share_the_work(hub: Driver) -> None:
    handles = [hub.backend, await hub.harness.open(), await hub.harness.open()]
    for number, handle in enumerate(handles):
        await hub.register(f"w{number}", on=handle)
    for number in range(30):
        await hub.create(f"i{number}")
    claimed: list[str] = []
    while len(claimed) < 30:
        before = len(claimed)
        for number, handle in enumerate(handles):
            claimed += [turn.instance for turn in (await hub.claim(f"w{number}", turns=4, on=handle)).turns]
        assert len(claimed) > before
    assert len(set(claimed)) == 30


@requires("many_handles")
@proves(Property.RETRY)
async def test_everything_is_there_for_another_handle(hub: Driver) -> None:
    command = hub.turn(await hub.started(), tasks=(hub.task("t"),))
    await hub.one(command)
    other = await hub.harness.open()
    assert (await hub.one(command, on=other)).status is OutcomeStatus.ALREADY_APPLIED
    with proving(Property.HISTORY):
        (record,) = await other.get_instances(["i"])
        assert record == await hub.existing()
    await hub.register("w2", on=other)
    assert [task.id for task in (await hub.claim("w2", on=other)).tasks] == ["t"]


@proves(Property.PROGRESS)
@pytest.mark.parametrize("selectors", [ALL, Selectors()])
async def test_nothing_to_claim_is_an_empty_claim(hub: Driver, selectors: Selectors) -> None:
    await hub.register()
    claim = await hub.claim(selectors=selectors)
    assert (claim.turns, claim.tasks, claim.next_due_us) == ((), (), None)
    assert claim.now_us > 0
    turn = await hub.started("j", "w2")
    await hub.commit(turn, "w2")
    assert (await hub.claim(selectors=selectors)).next_due_us is None
    assert after(turn).version == 1
