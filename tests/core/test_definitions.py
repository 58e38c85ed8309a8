"""Which functions take a context, however they spell its class."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from durable_core.definitions.activity import make_activity
from durable_core.definitions.entity import make_entity
from durable_core.errors import RegistrationError

IMPORTS = """
from __future__ import annotations
from typing import TYPE_CHECKING
import durable_core as dc
import durable_core.definitions.activity as made_of_activities
from durable_core import ActivityContext
from durable_core import ActivityContext as Ctx, EntityContext as Ectx
if TYPE_CHECKING:
    from durable_core import ActivityContext as Unseen
    from elsewhere import missing

class OtherContext: ...
class Own:
    class ActivityContext: ...
"""


def defined(source: str) -> Any:
    module = ModuleType("user_code")
    exec(IMPORTS + source, vars(module))  # noqa: S102  # a module of its own, with annotations as strings
    return module


@pytest.mark.parametrize(
    ("spelling", "takes"),
    [
        ("ActivityContext", True),
        ("Ctx", True),
        ("dc.ActivityContext", True),
        ("made_of_activities.ActivityContext", True),
        ("'Ctx'", True),  # quoted twice
        ("missing.ActivityContext", True),  # means nothing at run time: its name decides
        ("Unseen", False),
        ("OtherContext", False),
        ("Own.ActivityContext", False),  # another class of this name
        ("int", False),
    ],
)
def test_a_context_is_known_by_its_class(spelling: str, takes: bool) -> None:
    assert make_activity(defined(f"def act(ctx: {spelling}, x: int = 0) -> None: ...").act).takes_context is takes


def test_a_context_under_another_name_is_seen_by_every_check() -> None:
    with pytest.raises(RegistrationError, match="without ActivityContext"):
        make_activity(defined("def act(ctx: Ctx) -> None: ...").act, executor="process")


@pytest.mark.parametrize("spelling", ["dc.EntityContext", "Ectx"])
def test_a_context_of_an_operation(spelling: str) -> None:
    operations = make_entity(
        defined(f"class Box:\n def put(self, ctx: {spelling}, x: int) -> None: ...\n def get(self) -> int: ...").Box
    ).operations
    assert {name: operation.skip for name, operation in operations.items()} == {"put": 2, "get": 1, "delete": 2}
