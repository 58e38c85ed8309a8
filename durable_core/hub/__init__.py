"""The task hub as a pure state machine: the storage protocol's executable specification.

``decide(state, command, now_us)`` says what a command does to a hub: an answer and a list of *effects*. It changes nothing.
``absorb(state, effect)`` carries an effect out on a ``State``. Rules live in ``decide`` alone; effects are plain facts about rows,
so that a log of effects can be replayed for ever, whatever becomes of the rules.

This package is four things at once: the text that a backend author reads when ``backend.py`` leaves a question, the oracle that the
conformance kit compares a store with, the memory backend (a ``State`` and nothing else), and the rules of every store that decides in
Python: such a store loads the rows that ``needs`` names into a partial ``State``, decides, and writes the effects.

What a store claims internally (``Grant``, ``Beat``) is decided here too; *which* of the eligible instances are handed out is its choice
and an argument.

    rows.py          what is stored: immutable rows, the tables of a ``State``; a commit rewrites a row, ``details`` lie apart
    effects.py       what can happen to a row, and ``absorb``
    rules.py         ``decide``: the table of rules
      commit.py        one turn
      commands.py      create, send, complete, release, purge
      leases.py        incarnations and what is leased to them
    eligibility.py   who may be served, since when, with which messages
    transaction.py   how the steps of one command see each other; sending; removing
    needs.py         what ``decide`` reads
    queries.py       records, query pages, history pages
    messages.py      obituaries as bytes

Nothing here reads a clock, draws a random number or does I/O.
"""

from __future__ import annotations

from durable_core.hub.effects import (
    Advance,
    AppendHistory,
    DropHistory,
    DropInbox,
    DropInstance,
    DropMessage,
    DropTask,
    DropTasks,
    DropWorker,
    Effect,
    Forget,
    PutDetail,
    PutInstance,
    PutMessage,
    PutTask,
    PutWorker,
    Remember,
    absorb,
)
from durable_core.hub.eligibility import STEAL_AFTER_US, eligible_tasks, eligible_turns, next_due, page
from durable_core.hub.leases import Beat, Grant, tombstone
from durable_core.hub.messages import decode_messages, encode_messages
from durable_core.hub.needs import Needs, needs, needs_of_obituaries
from durable_core.hub.queries import cursor_after, matches, order_of, page_of_history, query, read_cursor, read_history, record_of
from durable_core.hub.rows import DETAIL_KINDS, DetailKind, InstanceRow, MessageRow, State, TaskRow, TaskTable, WorkerRow
from durable_core.hub.rules import decide

__all__ = [
    "DETAIL_KINDS",
    "STEAL_AFTER_US",
    "Advance",
    "AppendHistory",
    "Beat",
    "DetailKind",
    "DropHistory",
    "DropInbox",
    "DropInstance",
    "DropMessage",
    "DropTask",
    "DropTasks",
    "DropWorker",
    "Effect",
    "Forget",
    "Grant",
    "InstanceRow",
    "MessageRow",
    "Needs",
    "PutDetail",
    "PutInstance",
    "PutMessage",
    "PutTask",
    "PutWorker",
    "Remember",
    "State",
    "TaskRow",
    "TaskTable",
    "WorkerRow",
    "absorb",
    "cursor_after",
    "decide",
    "decode_messages",
    "eligible_tasks",
    "eligible_turns",
    "encode_messages",
    "matches",
    "needs",
    "needs_of_obituaries",
    "next_due",
    "order_of",
    "page",
    "page_of_history",
    "query",
    "read_cursor",
    "read_history",
    "record_of",
    "tombstone",
]
