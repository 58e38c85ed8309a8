"""From type hint to form: each hint is compiled once, on first use."""

from __future__ import annotations

import collections
import collections.abc as abc
import enum
import threading
import types
from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, Never, NoReturn, Union, get_args, get_origin

from durable_core.forms.choices import enum_form, literal_form
from durable_core.forms.containers import mapping_form, sequence_form, set_form, tuple_form
from durable_core.forms.disambiguation import tell_apart
from durable_core.forms.form import Fault, Form
from durable_core.forms.hints import hint_name, plain
from durable_core.forms.models import is_model, model_form
from durable_core.forms.records import is_record, record_form
from durable_core.forms.scalars import SCALARS, path_form
from durable_core.forms.unions import union_form

if TYPE_CHECKING:
    from cattrs import Converter

    from durable_core.forms.hooks import Hooks

__all__ = ["Forms"]

Make = Callable[[Any], Any]
_NATIVE = (str, int, float, list, dict)
_ADVICE = "use a dataclass or an attrs class, or register hooks for it (JsonConverter.cattrs)"
_UNHASHABLE = object()


def _as_is(native: Any) -> Any:
    return native


# Origin of the hint: what makes the form, how many element types it has, which values it takes, and what they become.
_CONTAINERS: dict[Any, tuple[Callable[..., Form], int, type[Any], Make]] = {
    list: (sequence_form, 1, list, _as_is),
    abc.Sequence: (sequence_form, 1, abc.Sequence, _as_is),
    abc.MutableSequence: (sequence_form, 1, abc.MutableSequence, _as_is),
    abc.Collection: (sequence_form, 1, abc.Sequence, _as_is),
    abc.Iterable: (sequence_form, 1, abc.Sequence, _as_is),
    set: (set_form, 1, set, set),
    frozenset: (set_form, 1, frozenset, frozenset),
    abc.Set: (set_form, 1, abc.Set, frozenset),
    abc.MutableSet: (set_form, 1, abc.MutableSet, set),
    dict: (mapping_form, 2, dict, _as_is),
    collections.OrderedDict: (mapping_form, 2, collections.OrderedDict, collections.OrderedDict),
    abc.Mapping: (mapping_form, 2, abc.Mapping, _as_is),
    abc.MutableMapping: (mapping_form, 2, abc.MutableMapping, _as_is),
}


class Forms:
    """Thread-safe. A form that is not finished yet (its type contains itself) is seen by nobody outside the lock, and
    all that a failed compilation made are thrown away.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._done: dict[Any, Form] = {}
        self._draft: dict[Any, Form] = {}
        self._compiling = False
        self._by_class: dict[type, Form] = {}
        self._hooks: Hooks | None = None
        self._any = Form("value", self.encode_any, _as_is, passes=frozenset({types.NoneType, bool, int, str}))

    def form(self, hint: Any) -> Form:
        """Raises ``Fault`` for a type that cannot travel."""
        try:
            return self._done[hint]
        except (KeyError, TypeError):  # TypeError: not hashable, as Annotated[int, []]
            with self._lock:
                return self._compile(hint)

    def encode_any(self, value: Any) -> Any:
        """Where no hint says more: by the value's class. Reading it back gives plain JSON."""
        kind = type(value)
        form = self._by_class.get(kind)
        if form is None:
            form = self._by_class[kind] = self._form_of_class(kind)
        return form.encode(value)

    @property
    def cattrs(self) -> Converter:
        """Where users register hooks for types of their own. Forgets what was compiled without them."""
        with self._lock:
            self._done.clear()
            self._by_class.clear()
            return self._registry().converter

    def _registry(self) -> Hooks:
        if self._hooks is None:
            from durable_core.forms.hooks import Hooks  # imports cattrs, which most programs never need

            self._hooks = Hooks(self.form, self.encode_any)
        return self._hooks

    def _form_of_class(self, kind: type) -> Form:
        if kind is object:
            raise Fault("an instance of object has nothing that JSON could hold")
        try:
            return self.form(kind)
        except Fault:  # a subclass of str, say, which we could not read back as such; here nothing is
            base = next((base for base in kind.__mro__ if base in _NATIVE), None)
            if base is None:
                raise
            return self.form(base)

    def _compile(self, hint: Any) -> Form:
        key = _key(hint)
        if key in self._draft and key is not _UNHASHABLE:
            return self._draft[key]
        before, outermost = self._draft.copy(), not self._compiling
        self._compiling = True
        try:
            made = self._draft[key] = self._make(hint)
            if outermost:
                self._done.update(self._draft)
            return made
        except Fault:
            self._draft = before
            raise
        finally:
            if outermost:
                self._compiling, self._draft = False, {}

    def _make(self, hint: Any) -> Form:
        meant = plain(hint)
        if meant is Any or meant is object:
            return self._any
        if self._hooks and _key(hint) is not _UNHASHABLE and (own := self._hooks.form(hint, lambda: self._built_in(meant))):
            return own
        if meant is not hint:
            self._draft[_key(hint)] = self._later(hint)  # an alias may contain itself
            return self.form(meant)
        return self._built_in(hint)

    def _later(self, hint: Any) -> Form:
        return Form(hint_name(hint), lambda value: self.form(hint).encode(value), lambda native: self.form(hint).decode(native))

    def _built_in(self, hint: Any) -> Form:
        name, origin, args = hint_name(hint), get_origin(hint) or hint, get_args(hint)
        if not isinstance(origin, abc.Hashable):
            raise Fault(f"{name} is not a type")
        if (scalar := SCALARS.get(types.NoneType if origin in (None, Never, NoReturn) else origin)) is not None:
            return scalar
        if origin is Literal:
            return literal_form(name, args, self.encode_any)
        if origin is Union or origin is types.UnionType:
            return union_form(name, [self.form(member) for member in args], self._tell_apart)
        if origin is tuple:
            return self._tuple(name, args, bare=hint is tuple)
        if origin in _CONTAINERS:
            make_form, count, accepts, make = _CONTAINERS[origin]
            return make_form(name, *([self.form(arg) for arg in args] or [self._any] * count), accepts, make)
        if (of_class := self._class(name, hint, origin)) is not None:
            return of_class
        raise Fault(f"there is no rule for {name}: {_ADVICE}")

    def _tuple(self, name: str, args: tuple[Any, ...], *, bare: bool) -> Form:
        if bare or (len(args) == 2 and args[1] is Ellipsis):
            return sequence_form(name, self._any if bare else self.form(args[0]), tuple, tuple)
        if any(getattr(arg, "__unpacked__", False) for arg in args):
            raise Fault(f"there is no rule for {name}: a tuple is either of fixed length or of one type")
        return tuple_form(name, [self.form(arg) for arg in args])

    def _class(self, name: str, hint: Any, origin: Any) -> Form | None:
        def announce(form: Form) -> None:
            self._draft[_key(hint)] = form

        if is_record(origin):
            return record_form(hint, self.form, announce)
        if is_model(hint):
            return model_form(hint, self.encode_any)
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return enum_form(name, hint, self.encode_any)
        if isinstance(hint, type) and issubclass(hint, PurePath):
            return path_form(hint)
        return None

    def _tell_apart(self, records: list[Form]) -> Make:
        return tell_apart(records, self.form, self._registry().converter)


def _key(hint: Any) -> Any:
    try:
        hash(hint)
    except TypeError:  # Annotated[int, []]
        return _UNHASHABLE
    return hint
