"""Instance ids: what a user may choose, and what the engine makes of an execution id."""

from __future__ import annotations

from durable_core.backend import ENTITY_PREFIX, MAX_ID_LENGTH
from durable_core.errors import InvalidInstanceIdError


def check_instance_id(instance_id: str) -> str:
    """The id itself, if a user may choose it. Raises ``InvalidInstanceIdError``."""
    problem = None
    if not isinstance(instance_id, str):
        problem = f"must be a text, got {instance_id!r}"
    elif not instance_id:
        problem = "must not be empty; leave it out to get a fresh one"
    elif len(instance_id) > MAX_ID_LENGTH:
        problem = f"has at most {MAX_ID_LENGTH} characters, not {len(instance_id)}: {instance_id[:40]!r}…"
    elif instance_id.startswith(ENTITY_PREFIX):
        problem = f"that starts with {ENTITY_PREFIX!r} is an entity's; choose another than {instance_id!r}"
    elif not instance_id.isprintable():
        problem = f"must be printable text: {instance_id!r}"
    if problem is not None:
        raise InvalidInstanceIdError(f"an instance id {problem}")
    return instance_id


def check_lookup_id(instance_id: str) -> str:
    """The id itself, if an instance or an entity may have it: a store is not asked for what it could not even say, which would fail others
    that are asked for in the same read. Raises ``InvalidInstanceIdError``."""
    if not isinstance(instance_id, str) or not instance_id.startswith(ENTITY_PREFIX):
        return check_instance_id(instance_id)
    if not is_storable(instance_id):
        raise InvalidInstanceIdError(f"an entity's instance id {_UNSTORABLE}: {instance_id!r}")
    return instance_id


def check_is_orchestration(instance_id: str, instead: str) -> None:
    """What is done to orchestrations cannot be done to entities; ``instead`` says what can. Raises ``InvalidInstanceIdError``."""
    if isinstance(instance_id, str) and instance_id.startswith(ENTITY_PREFIX):
        raise InvalidInstanceIdError(f"{instance_id!r} is an entity: {instead}")


_UNSTORABLE = "must not contain half a surrogate pair (os.fsdecode makes them)"


def is_storable(text: str) -> bool:
    """Whether every store can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(given: str, what: str) -> str:
    """The text itself, if every store can hold it: a name, a prefix. Raises ``TypeError``, ``ValueError``."""
    if not isinstance(given, str):
        raise TypeError(f"{what} must be a text, got {given!r}")
    if not given:
        raise ValueError(f"{what} must not be empty")
    if not is_storable(given):
        raise ValueError(f"{what} {_UNSTORABLE}: {given!r}")
    return given


def check_tags(given: object) -> dict[str, str] | None:
    """Raises ``TypeError``, ``ValueError``."""
    if given is None:
        return None
    if not isinstance(given, dict) or not all(isinstance(text, str) for pair in given.items() for text in pair):
        raise TypeError(f"tags must be a dict of texts, got {given!r}")
    for text in (text for pair in given.items() for text in pair if text):
        check_text(text, "a tag")
    return given


def child_id(parent_execution: str, number: int) -> str:
    """The default id of a child: by execution, so that it cannot collide after continue-as-new."""
    return f"{parent_execution}:{number:04x}"


def entity_name(instance_id: str) -> str:
    """Of ``@name@key``."""
    return instance_id.split(ENTITY_PREFIX, 2)[1]


def task_key(execution: str, number: int) -> str:
    """The hub-wide id of an activity task, and of the message that completes it."""
    return f"{execution}#{number}"


def timer_key(execution: str, number: int) -> str:
    """The message id of a timer."""
    return f"{execution}~{number}"


def child_result_id(child_execution: str) -> str:
    """The message id of what a child tells its parent when it ends."""
    return f"{child_execution}>end"
