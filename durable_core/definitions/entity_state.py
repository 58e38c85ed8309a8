"""An entity's state: what the attributes of its object say, all of them, as texts by name.

An attribute that the body of the class annotates travels by its type. Any other holds plain JSON. No state are class variables (``ClassVar``,
``Final`` with a value), properties, methods, and what a ``cached_property`` keeps. Each object has its own copies of defaults.

Whatever is saved comes back equal: what would not is refused by the attribute's name. Where that cannot be seen (``exact.py``), the value is
read back at once and takes the place of what was saved, so that two attributes share no object that they would not share after a restart.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import inspect
import logging
import re
import reprlib
import types
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Final, cast

import attrs
from msgspec import Struct, field

from durable_core.converter import Compiled, DataConverter, JsonConverter, compiled
from durable_core.definitions.attributes import OF_CLASS, Attributes, everything_of, is_cache, is_dunder
from durable_core.definitions.exact import ATOMS, PLAIN, ExactHint
from durable_core.errors import PayloadError, RegistrationError
from durable_core.forms.form import Fault, field_hints, unwrapped

_logger = logging.getLogger("durable_core.engine")

_SHARED = (types.ModuleType, types.MappingProxyType, type, types.BuiltinFunctionType)
"""On a class: no state, and nothing to copy."""

_NOT_AMONG_ATTRIBUTES = (list, dict, set, frozenset, tuple, str, bytes, bytearray, int, float, complex)

_NOT_SET = object()


class _Kind(enum.Enum):
    """What an attribute is, by its name."""

    STATE = "state"
    CACHE = "what a descriptor of the class keeps in the object"
    OF_CLASS = "the class's own"


class LoadedEntity(Struct, eq=False):
    """An object in memory. ``initial``: the attributes that a new one has. ``kept``: texts of attributes that the class has no place for.
    ``values``: what is no plain JSON, as it was last read back."""

    object: Any
    initial: frozenset[str]
    kept: dict[str, str]
    values: dict[str, Any] = field(default_factory=dict)


class EntityStateForm:
    """Of the entity class ``cls``, known as ``name``. Annotations are resolved at first use: they may name classes defined further down."""

    def __init__(self, cls: type, name: str, converter: DataConverter) -> None:
        self._cls = cls
        self._name = name
        self._converter = converter
        self._attributes = Attributes(cls)
        self._kinds: dict[str, _Kind] = {}
        self._plain: dict[str, Compiled] = {}
        self._warned: set[str] = set()

    def check(self) -> None:
        """Raises ``RegistrationError`` for what can be no state, as far as that is known now."""
        if issubclass(self._cls, _NOT_AMONG_ATTRIBUTES):
            raise RegistrationError(
                f"entity {self._name!r} must not be a {self._cls.__mro__[-2].__name__}: its attributes are its state; give it one that holds this"
            )
        try:
            _ = self._typed
            if isinstance(self._converter, JsonConverter):
                _ = self._default_texts
        except RegistrationError as error:
            if error.__cause__ is None:
                raise
            # A name that is not defined yet, perhaps: the first operation says so if it stays like that.
        _ = self._defaults

    # ── loading ───────────────────────────────────────────────────────────────────────────────────────────────

    def load(self, texts: dict[str, str] | None, deleted: list[str]) -> LoadedEntity:
        """A new object with this state. Attributes that are new in the class keep their defaults; of those that it does not know any more,
        each stays what it was."""
        texts, entity, own = texts or {}, self._cls(), self._attributes
        fresh = {name: value for name, value in own.read(entity).items() if self._kind(name) is _Kind.STATE}
        memo: dict[int, Any] = {id(entity): entity}
        for name, value in fresh.items():
            if name not in texts and type(value) not in ATOMS:
                own.write(entity, name, _copied(value, memo))  # it may be everybody's: a default argument, a constant of the module
        for name, value in self._defaults.items():
            if name not in fresh and name not in texts:
                own.write(entity, name, copy.deepcopy(value))
        for name in fresh.keys() & deleted:
            own.remove(entity, name)
        loaded = LoadedEntity(entity, frozenset(fresh), {})
        for name, text in texts.items():
            if self._kind(name) is _Kind.STATE and own.takes(name):
                self._warn_of(name, fresh)
                loaded.values[name] = value = self._compiled(name).decode(text)
                own.write(entity, name, value)
            else:
                loaded.kept[name] = text
        return loaded

    def _warn_of(self, name: str, fresh: dict[str, Any]) -> None:
        if not (name in self._typed or name in fresh or name in self._warned or hasattr(self._cls, name)):
            self._warned.add(name)
            text = "entity %r has a stored attribute %r that its class neither annotates nor sets in __init__; it is kept as it is. Was it renamed?"
            _logger.warning(text, self._name, name)

    # ── saving ────────────────────────────────────────────────────────────────────────────────────────────────

    def save(self, loaded: LoadedEntity, before: dict[str, str] | None) -> tuple[dict[str, str], list[str]]:
        """The texts by name, and which of the attributes of a new object are deleted. ``before`` is what was saved last. Raises
        ``PayloadError``, which names the attribute."""
        found = self._attributes.read(loaded.object)
        texts, containers, before = dict(loaded.kept), set[int](), before or {}
        for name, value in {**self._annotated_defaults, **found}.items():
            kind = self._kinds.get(name) or self._kind(name)
            if kind is _Kind.CACHE:
                continue
            if kind is _Kind.OF_CLASS:
                raise PayloadError(
                    f"{self._where(name)}: it cannot be set on an object, since the class has a method, property or class variable of this name"
                )
            text = texts[name] = self._encode(name, value)
            if name not in before and text == self._default_texts.get(name) and _same(value, self._defaults[name]):
                del texts[name]  # the class's own, as it is: perhaps a constant
            elif type(value) not in ATOMS and not self._comes_back(name, value, containers):
                self._take_back(loaded, name, value, text, before.get(name))
        return texts, sorted(loaded.initial.difference(found))

    def _encode(self, name: str, value: Any) -> str:
        try:
            return self._compiled(name).encode(value)
        except PayloadError as error:
            if name in self._typed:
                raise
            raise PayloadError(f"{error}. {_NO_STATE}") from error.__cause__

    def _comes_back(self, name: str, value: Any, containers: set[int]) -> bool:
        """Whether that can be seen without reading it back."""
        return self._exact.get(name, PLAIN).holds(value, containers)

    def _take_back(self, loaded: LoadedEntity, name: str, value: Any, text: str, text_before: str | None) -> None:
        """What a restart would give takes the place of the value, if it is the same."""
        if text == text_before and loaded.values.get(name, _NOT_SET) is value:
            return  # it is what was taken back the last time
        back = self._compiled(name).decode(text)
        if not _same(value, back):
            advice = _OTHER_HINT if name in self._typed else _HINT
            shown, shown_back = _shown(value), _shown(back)
            raise PayloadError(f"{self._where(name)} would come back as {shown_back} instead of {shown}: {advice}")
        self._attributes.write(loaded.object, name, back)
        loaded.values[name] = back

    # ── what the class says ───────────────────────────────────────────────────────────────────────────────────

    def _where(self, name: str) -> str:
        return f"attribute {name!r} of entity {self._name!r}"

    @cached_property
    def _of_class(self) -> dict[str, Any]:
        """What the class itself has, inherited things included."""
        return everything_of(self._cls)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return field_hints(self._cls)
        except Fault as fault:
            raise RegistrationError(f"entity {self._name!r}: {fault}") from (fault.__cause__ or fault)

    def _is_constant(self, name: str, hint: Any) -> bool:
        """Of the class, not of an object."""
        _, qualifiers = unwrapped(hint)
        is_final = hint is Final or "Final" in qualifiers
        return hint is ClassVar or "ClassVar" in qualifiers or (is_final and name in self._of_class and not _is_record(self._cls))

    @cached_property
    def _typed(self) -> dict[str, Compiled]:
        typed: dict[str, Compiled] = {}
        for name, hint in self._hints.items():
            no_field = isinstance(hint, dataclasses.InitVar) or hint is dataclasses.KW_ONLY or hint is Final
            if is_dunder(name) or no_field or self._is_constant(name, hint):
                continue
            try:
                typed[name] = compiled(self._converter, hint, self._where(name))
            except PayloadError as error:
                raise RegistrationError(f"{error}. {_NO_STATE}") from error.__cause__
        return typed

    @cached_property
    def _exact(self) -> dict[str, ExactHint]:
        hints = {name: ExactHint(self._hints[name]) for name in self._typed}
        return {name: hint for name, hint in hints.items() if hint.is_exact}

    def _compiled(self, name: str) -> Compiled:
        found = self._typed.get(name) or self._plain.get(name)
        return found or self._plain.setdefault(name, compiled(self._converter, Any, self._where(name)))

    def _kind(self, name: str) -> _Kind:
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = self._find_kind(name)
        return kind

    def _find_kind(self, name: str) -> _Kind:
        of_class = self._of_class.get(name, _NOT_SET)
        if name in self._hints and self._is_constant(name, self._hints[name]):
            return _Kind.OF_CLASS
        if isinstance(of_class, OF_CLASS):
            return _Kind.OF_CLASS
        return _Kind.CACHE if is_cache(of_class) else _Kind.STATE

    # ── defaults ──────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _class_values(self) -> dict[str, Any]:
        """What the class gives each object, without what is the class's own."""
        if hasattr(self._cls, "__pydantic_fields__"):
            return {}
        values: dict[str, Any] = {}
        constant = r"\bClassVar\b" if _is_record(self._cls) else r"\b(ClassVar|Final)\b"
        for name, value in self._of_class.items():
            is_state = not (is_dunder(name) or name == "_abc_impl" or hasattr(type(value), "__get__") or isinstance(value, _SHARED))
            if is_state and not re.search(constant, self._annotations.get(name, "")):
                values[name] = value
        return values

    @cached_property
    def _annotations(self) -> dict[str, str]:
        """As they are written: not all may be resolved yet."""
        bases = reversed(self._cls.__mro__[:-1])
        return {name: str(hint) for base in bases for name, hint in inspect.get_annotations(base).items()}

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        """Those that could be changed in place, as they are before anybody has."""
        defaults: dict[str, Any] = {}
        for name, value in self._class_values.items():
            try:
                copied = copy.deepcopy(value)
            except Exception as error:
                text = f"{self._where(name)} is a {type(value).__name__}, which cannot be copied for each object ({error}). {_NO_STATE}"
                raise RegistrationError(text) from None
            if copied is not value:
                defaults[name] = copied
        return defaults

    @cached_property
    def _annotated_defaults(self) -> dict[str, Any]:
        return {name: value for name, value in self._class_values.items() if name in self._typed and name not in self._defaults}

    @cached_property
    def _default_texts(self) -> dict[str, str]:
        """Of defaults without annotation: they are saved when they have changed."""
        try:
            return {name: self._encode(name, value) for name, value in self._defaults.items() if name not in self._typed}
        except PayloadError as error:
            raise RegistrationError(str(error)) from error.__cause__


_HINT = "annotate it in the body of the class (an annotation inside __init__ is not seen)"
_OTHER_HINT = "change the annotation to what it holds"
_NO_STATE = (
    "An entity's attributes are its state, so they must be data. What is none (a lock, a connection) belongs into a ClassVar, "
    "a functools.cached_property or a module"
)


def _is_record(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) or attrs.has(cls) or issubclass(cls, Struct) or hasattr(cls, "__pydantic_fields__")


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # no state: it is refused when it is to be saved
        return value


def _same(one: Any, other: Any) -> bool:
    """Equal, part for part, and of the same classes; but an int may have become a float."""
    kind = type(one)
    if kind is not type(other):
        return {kind, type(other)} == {int, float} and bool(one == other)
    if kind in ATOMS:
        return bool(one == other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return _same(list(one), list(other)) and _same(list(one.values()), list(other.values()))
    if (attributes := _of_record(cast(Any, kind))) is not None:
        parts, of_other = attributes.parts(one), attributes.parts(other)
        return one is other or (parts.keys() == of_other.keys() and all(map(_same, parts.values(), map(of_other.__getitem__, parts))))
    return bool(one == other)


@lru_cache(maxsize=1_000)
def _of_record(cls: Any) -> Attributes | None:
    """Of a class whose objects are compared by all their attributes, also by those that are no fields, which would be lost."""
    return Attributes(cls) if _is_record(cls) or "__eq__" not in everything_of(cls) else None


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {reprlib.repr(value)}"
