"""Messages: order, scope, repeated submissions, large inboxes."""

from __future__ import annotations

from durable_conformance.driver import Driver, after, ended, status_of
from durable_conformance.properties import Property, proves, requires
from durable_core.backend import OutcomeStatus, Purge, SendMessage


@proves(Property.ORDER)
async def test_messages_arrive_in_the_order_in_which_they_were_sent(hub: Driver) -> None:
    await hub.register()
    await hub.create()
    messages = [hub.message("i", sender=f"s{number % 3}") for number in range(30)]
    for start in range(0, 30, 7):
        await hub.apply(*map(SendMessage, messages[start : start + 7]))
    assert list((await hub.claimed()).messages) == messages


@proves(Property.CONSERVATION)
async def test_there_must_be_somebody_to_send_to(hub: Driver) -> None:
    turn = await hub.started()
    outcomes = await hub.apply(
        SendMessage(hub.message("nobody")),
        SendMessage(hub.message("i", execution="x")),
        SendMessage(hub.message("i", execution=turn.execution)),
    )
    assert status_of(outcomes) == [OutcomeStatus.GONE, OutcomeStatus.GONE, OutcomeStatus.OK]
    await hub.commit(turn, record=ended())
    assert (await hub.one(SendMessage(hub.message("i")))).status is OutcomeStatus.ENDED


@proves(Property.RETRY)
async def test_a_repeated_message_is_recognised_whatever_became_of_it(hub: Driver) -> None:
    await hub.running(hold_us=0)
    send = SendMessage(hub.message("i"))
    assert status_of(await hub.apply(send, send)) == [OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED]
    claimed = await hub.claimed()
    await hub.commit(claimed, consumes=(send.message.id,))
    assert (await hub.one(send)).status is OutcomeStatus.ALREADY_APPLIED, "after it was consumed"
    await hub.create("i", reuse="terminate_and_replace")
    assert (await hub.one(send)).status is OutcomeStatus.ALREADY_APPLIED, "after a replacement"
    await hub.one(Purge("i", force=True))
    await hub.create("i")
    assert (await hub.one(send)).status is OutcomeStatus.ALREADY_APPLIED, "after a purge"
    assert (await hub.claimed()).messages == ()


@requires("frozen_clock")
@proves(Property.RETRY)
async def test_an_id_may_be_used_again_after_the_window(hub: Driver) -> None:
    await hub.running()
    send = SendMessage(hub.message("i"))
    await hub.one(send)
    claimed = await hub.claimed()
    await hub.commit(claimed, consumes=(send.message.id,))
    hub.harness.advance_clock(hub.capabilities.dedup_window_us - 1)
    assert (await hub.one(send)).status is OutcomeStatus.ALREADY_APPLIED
    hub.harness.advance_clock(1)
    assert (await hub.one(send)).status is OutcomeStatus.OK


@proves(Property.CONSERVATION)
async def test_a_refused_message_may_be_sent_again(hub: Driver) -> None:
    send = SendMessage(hub.message("i"))
    assert (await hub.one(send)).status is OutcomeStatus.GONE
    await hub.create("i")
    assert (await hub.one(send)).status is OutcomeStatus.OK


@proves(Property.CONSERVATION)
async def test_a_large_inbox_is_handed_out_in_portions(hub: Driver) -> None:
    limit = hub.capabilities.messages_per_claim
    turn = await hub.running()
    messages = [hub.message("i", str(number).encode()) for number in range(2 * limit + limit // 2)]
    for start in range(0, len(messages), 500):
        await hub.apply(*map(SendMessage, messages[start : start + 500]))
    claimed = await hub.claimed()
    taken = list(claimed.messages)
    assert (len(taken), claimed.more) == (limit, True)
    more, portion = True, claimed.messages
    while more:
        outcome = await hub.commit(turn, consumes=tuple(message.id for message in portion))
        turn = after(turn)
        more, portion = outcome.more, outcome.messages
        taken += portion
    assert taken == messages
    await hub.commit(turn, consumes=tuple(message.id for message in portion))
    assert (await hub.claim()).turns == ()


@proves(Property.CONSERVATION)
async def test_a_turn_may_send_to_itself(hub: Driver) -> None:
    turn = await hub.started()
    message = hub.message("i")
    assert (await hub.commit(turn, messages=(message,))).messages == (message,)


@proves(Property.CONSERVATION)
async def test_what_a_turn_sends_to_nobody_is_dropped(hub: Driver) -> None:
    turn = await hub.started()
    await hub.commit(turn, messages=(hub.message("nobody"), hub.message("i", execution="x")))
    assert (await hub.claim()).turns == ()
