"""From type hint to form: each hint is compiled once, on first use."""

from __future__ import annotations

import enum
import threading
import types
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, Never, NoReturn, Union, get_args, get_origin

from durable_core.forms.containers import CONTAINERS, container_form, tuple_form
from durable_core.forms.form import Fault, Form
from durable_core.forms.hints import hint_name, plain
from durable_core.forms.records import is_model, is_record, model_form, record_form
from durable_core.forms.scalars import SCALARS, enum_form, literal_form, written_form
from durable_core.forms.unions import union_form

if TYPE_CHECKING:
    from cattrs import Converter

    from durable_core.forms.hooks import Hooks

_NATIVE = (str, int, float, list, dict)


class Forms:
    """Thread-safe. A form that is not finished yet (its type contains itself) is seen by nobody outside the lock, and
    all that a failed compilation made are thrown away.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._done: dict[Any, Form] = {}
        self._draft: dict[Any, Form] = {}
        self._by_class: dict[type, Form] = {}
        self._hooks: Hooks | None = None
        self._any = Form("value", self.encode_any, lambda native: native, passes=frozenset({types.NoneType, bool, int, str}))

    def form(self, hint: Any) -> Form:
        """Raises ``Fault`` for a type that cannot travel."""
        try:
            return self._done.get(hint) or self._compile(hint)
        except TypeError as error:
            raise Fault(f"{hint_name(hint)} is not a type, or has metadata that cannot be hashed") from error

    def encode_any(self, value: Any) -> Any:
        """Where no hint says more: by the value's class. Reading it back gives plain JSON."""
        kind = type(value)
        form = self._by_class.get(kind) or self._by_class.setdefault(kind, self._form_of_class(kind))
        return form.encode(value)

    @property
    def cattrs(self) -> Converter:
        """Where users register hooks for types of their own. Forgets what was compiled without them."""
        with self._lock:
            self._done.clear()
            self._by_class.clear()
            if self._hooks is None:
                from durable_core.forms.hooks import Hooks  # imports cattrs, which most programs never need

                self._hooks = Hooks(self.form, self.encode_any)
            return self._hooks.converter

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
        with self._lock:
            if hint in self._draft:
                return self._draft[hint]
            outermost = not self._draft
            self._draft[hint] = Form(  # what a type alias that contains itself finds there
                hint_name(hint), lambda value: self.form(hint).encode(value), lambda native: self.form(hint).decode(native)
            )
            try:
                made = self._draft[hint] = self._make(hint)
                if outermost:
                    self._done.update(self._draft)
                return made
            except Fault:
                del self._draft[hint]
                raise
            finally:
                if outermost:
                    self._draft = {}

    def _make(self, hint: Any) -> Form:
        meant = plain(hint)
        if meant is Any or meant is object:
            return self._any
        if self._hooks and (own := self._hooks.form(hint, lambda: self._built_in(meant))):
            return own
        return self._built_in(hint) if meant is hint else self.form(meant)

    def _built_in(self, hint: Any) -> Form:
        name, origin, args = hint_name(hint), get_origin(hint) or hint, get_args(hint)
        if (scalar := SCALARS.get(types.NoneType if origin in (None, Never, NoReturn) else origin)) is not None:
            return scalar
        if origin is Literal:
            return literal_form(name, args, self.encode_any)
        if origin is Union or origin is types.UnionType:
            return union_form(name, [self.form(member) for member in args])
        if origin is tuple and hint is not tuple and args[1:] != (...,):
            return tuple_form(name, [self.form(arg) for arg in args])
        if origin in CONTAINERS:
            return container_form(name, origin, args, self.form)
        if is_record(origin):
            return record_form(hint, self.form, lambda form: self._draft.update({hint: form}))
        if is_model(hint):
            return model_form(hint, self.encode_any)
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return enum_form(name, hint, self.encode_any)
        if isinstance(hint, type) and issubclass(hint, PurePath):
            return written_form(hint, str, hint)
        raise Fault(f"there is no rule for {name}: use a dataclass or an attrs class, or register hooks for it (JsonConverter.cattrs)")
