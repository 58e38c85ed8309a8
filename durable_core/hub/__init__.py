"""The task hub as a pure state machine: the storage protocol's executable specification.

``decide(state, command, now_us)`` says what a command does to a hub: an answer and a list of *effects*. It changes nothing.
``effect.absorb(state)`` carries an effect out on a ``State``. Rules live in ``decide`` alone; effects are plain facts about rows,
so that a log of effects can be replayed for ever, whatever becomes of the rules.

This package is four things at once: the text that a backend author reads when ``backend.py`` leaves a question, the oracle that the
conformance kit compares a store with, the memory backend (a ``State`` and nothing else), and the rules of every store that decides in
Python: such a store loads the rows that ``needs`` names into a partial ``State``, decides, and writes the effects.

What a store claims internally (``Grant``, ``Beat``) is decided here too; *which* of the eligible instances are handed out is its choice
and an argument.

    rows.py          what is stored: immutable rows, the tables of a ``State``; a commit rewrites a row, ``details`` lie apart
    effects.py       what can happen to a row
    rules.py         ``decide``: the table of rules; create, send, complete, release, purge
      commit.py        one turn
      leases.py        incarnations and what is leased to them
    clock.py         hub time, by a handle's clocks
    eligibility.py   who may be served, since when, with which messages
    transaction.py   how the steps of one command see each other; sending, creating, removing
    needs.py         what ``decide`` reads
    queries.py       records, query pages, history pages

Nothing here reads a clock, draws a random number or does I/O.
"""

from durable_core.hub.clock import HubClock as HubClock
from durable_core.hub.eligibility import STEAL_AFTER_US as STEAL_AFTER_US
from durable_core.hub.eligibility import eligible_tasks as eligible_tasks
from durable_core.hub.eligibility import eligible_turns as eligible_turns
from durable_core.hub.eligibility import is_suspect_task as is_suspect_task
from durable_core.hub.eligibility import next_due as next_due
from durable_core.hub.leases import Beat as Beat
from durable_core.hub.leases import Grant as Grant
from durable_core.hub.needs import Needs as Needs
from durable_core.hub.needs import needs as needs
from durable_core.hub.needs import needs_of_obituaries as needs_of_obituaries
from durable_core.hub.queries import cursor_after as cursor_after
from durable_core.hub.queries import query as query
from durable_core.hub.queries import read_cursor as read_cursor
from durable_core.hub.queries import read_history as read_history
from durable_core.hub.queries import record_of as record_of
from durable_core.hub.rows import DETAIL_KINDS as DETAIL_KINDS
from durable_core.hub.rows import DetailKind as DetailKind
from durable_core.hub.rows import InstanceRow as InstanceRow
from durable_core.hub.rows import MessageRow as MessageRow
from durable_core.hub.rows import State as State
from durable_core.hub.rows import TaskRow as TaskRow
from durable_core.hub.rows import WorkerRow as WorkerRow
from durable_core.hub.rules import decide as decide
