"""Payloads that nobody can read in the store: a ``DataConverter`` that encrypts, and how its key is changed.

    python -m examples.encrypting_converter [URL]

Arguments, results, events, custom statuses and the state of entities are encrypted. Names, ids, tags and the texts of failures are not: they
are what people search by. Give a new key to every worker as the second one first, then make it the first: a payload that a worker has no key
for fails whoever needs it. Needs ``pip install cryptography``.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from attrs import frozen
from cryptography.fernet import Fernet, MultiFernet

from durable_core import DurableEngine, JsonConverter, OrchestrationContext, activity, orchestrator


class EncryptingConverter:
    """What ``JsonConverter`` writes, encrypted with the first key; whatever one of the keys opens is read."""

    def __init__(self, *keys: bytes) -> None:
        self._json = JsonConverter()
        self._keys = MultiFernet([Fernet(key) for key in keys])

    def encode(self, value: Any, type_hint: Any) -> str:
        return self._keys.encrypt(self._json.encode(value, type_hint).encode()).decode()

    def decode(self, text: str, type_hint: Any) -> Any:
        return self._json.decode(self._keys.decrypt(text.encode()).decode(), type_hint)


@frozen
class Patient:
    name: str
    diagnosis: str


@activity
async def letter(patient: Patient) -> str:
    return f"Dear {patient.name}, it is {patient.diagnosis}."


@orchestrator
async def inform(ctx: OrchestrationContext, patient: Patient) -> str:
    text = await ctx.call_activity(letter, patient)
    signature = await ctx.wait_for_external_event("signed", return_type=str)
    return f"{text} {signature}"


def engine_with(*keys: bytes) -> DurableEngine:
    engine = DurableEngine("sqlite:///clinic.db", converter=EncryptingConverter(*keys))
    engine.register(letter, inform)
    return engine


async def main(url: str | None = None) -> str:
    """Start with one key, go on with the next: the history of the running instance stays readable."""
    old, new = Fernet.generate_key(), Fernet.generate_key()
    async with engine_with(old).open(url) as engine:
        handle = await engine.client.schedule_new_orchestration(inform, Patient("Ada", "a cold"))
        await engine.client.wait_for_start(handle.id)
    async with engine_with(new, old).open(url) as engine:
        await engine.client.raise_event(handle.id, "signed", "Dr. Grace")
        return await engine.client.get_handle(inform, handle.id).result()


if __name__ == "__main__":
    print(asyncio.run(main(*sys.argv[1:])))
