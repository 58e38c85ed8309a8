"""Golden histories on disk: one JSON file a generation of an instance, one event a line."""

from __future__ import annotations

import importlib
import json
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from durable_core import DurableEngine
from durable_core.codec import decode_events, encode_event
from durable_core.events import Event
from durable_core.replay.machine import Execution
from durable_core.testing.histories import replay

PROJECT = Path(__file__).resolve().parents[2]
HISTORIES = Path(__file__).parent / "histories"


@frozen
class Golden:
    """``engine`` is where the engine is defined that knows the orchestrator: ``module:attribute``."""

    engine: str
    orchestrator: str
    instance_id: str
    execution_id: str
    events: Sequence[Event]

    def load_engine(self) -> DurableEngine:
        module, _, attribute = self.engine.partition(":")
        engine = getattr(importlib.import_module(module), attribute)
        assert isinstance(engine, DurableEngine)
        return engine

    def replayed(self, events: Sequence[Event] | None = None) -> Execution:
        """All of the events, or these, on this Python. To be closed."""
        return replay(self.load_engine(), self.instance_id, self.execution_id, self.events if events is None else events)

    def write(self, path: Path) -> None:
        lines = ",\n  ".join(_without_places(encode_event(event).decode()) for event in self.events)
        head = {name: getattr(self, name) for name in ("engine", "orchestrator", "instance_id", "execution_id")}
        path.write_text(json.dumps(head, indent=1)[:-2] + f',\n "events": [\n  {lines}\n ]\n}}\n')

    @classmethod
    def read(cls, path: Path) -> Golden:
        fields: dict[str, Any] = json.loads(path.read_text())
        return cls(**{**fields, "events": decode_events(json.dumps(fields["events"]).encode())})


def _without_places(text: str) -> str:
    """Stack traces name files of the machine that recorded them."""
    return text.replace(f"{PROJECT}/", "").replace(sysconfig.get_path("stdlib"), "lib")
