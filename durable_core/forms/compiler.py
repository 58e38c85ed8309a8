"""From type hint to form: each hint is compiled once, on first use."""

from __future__ import annotations

import enum
import threading
import types
from pathlib import Path, PurePath
from typing import Any, Literal, Never, NoReturn, Union, get_args, get_origin

from durable_core.forms import containers, models, records, scalars, unions
from durable_core.forms.form import Fault, Form, guarded, hint_name, unwrapped


class Forms:
    """Thread-safe. A form that is not finished yet (its type contains itself) is seen by nobody outside the lock, and
    all that a failed compilation made are thrown away.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._done: dict[Any, Form] = {}
        self._draft: dict[Any, Form] = {}
        self._by_class: dict[type, Form] = {}
        self._cattrs: Any = None
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

    def _form_of_class(self, kind: type) -> Form:
        if hasattr(kind, "__pydantic_root_model__"):
            own = self._hooked(kind, kind) if self._cattrs else None
            return own or models.model_form(kind, self.encode_any, marked=False)
        if kind is object:
            raise Fault("an instance of object has nothing that JSON could hold")
        try:
            return self.form(kind)
        except Fault:  # a subclass of str, say, which we could not read back as such; here nothing is
            for base in kind.__mro__:
                if base in (str, int, float, list, dict):
                    return self.form(base)
            raise

    def _compile(self, hint: Any) -> Form:
        with self._lock:
            if hint in self._draft:
                return self._draft[hint]
            outermost = not self._draft
            # What a type alias that contains itself finds there.
            self._draft[hint] = Form(hint_name(hint), lambda value: self.form(hint).encode(value), lambda it: self.form(hint).decode(it))
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
        meant, _ = unwrapped(hint)
        if meant is Any or meant is object:
            return self._any
        if self._cattrs and (own := self._hooked(hint, meant)):
            return own
        return self._built_in(hint) if meant is hint else self.form(meant)

    def _built_in(self, hint: Any) -> Form:
        name, origin, args = hint_name(hint), get_origin(hint) or hint, get_args(hint)
        if (scalar := scalars.SCALARS.get(types.NoneType if origin in (None, Never, NoReturn) else origin)) is not None:
            return scalar
        if origin is Literal:
            return scalars.choice_form(name, args, tuple(map(type, args)), self.encode_any)
        if origin is Union or origin is types.UnionType:
            return unions.union_form(name, [self.form(member) for member in args])
        if origin is tuple and hint is not tuple and args[1:] != (...,):
            return containers.tuple_form(name, [self.form(arg) for arg in args])
        if origin in containers.CONTAINERS:
            return containers.container_form(name, origin, args, self.form)
        cls: Any = origin if isinstance(origin, type) else object
        if issubclass(cls, enum.Enum):
            return scalars.choice_form(name, list(cls), (cls,), lambda member: self.encode_any(member.value), cls)
        if records.parameters_of(cls) is not None:
            return records.record_form(hint, self.form, lambda form: self._draft.update({hint: form}))
        if hasattr(cls, "__pydantic_root_model__"):
            return models.model_form(cls, self.encode_any)
        if issubclass(cls, PurePath):
            return scalars.written_form(cls, str, cls)
        raise Fault(f"there is no rule for {name}: use a dataclass or an attrs class, or register hooks for it (JsonConverter.cattrs)")

    # ── the user's own hooks ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def cattrs(self) -> Any:
        """Where users register them: a cattrs converter. Forgets what was compiled without them.

        Whatever cattrs knows by itself is replaced in it by our forms, so that a hook which calls
        ``converter.structure(part, list[int])`` is as strict as the rest.
        """
        from cattrs import Converter  # here, since most programs never need it

        with self._lock:
            self._done.clear()
            self._by_class.clear()
            if self._cattrs is None:
                self._cattrs = converter = Converter()
                for kind in (str, bytes, int, float, Path, enum.Enum):  # what it looks up before any predicate is asked
                    converter.register_unstructure_hook(kind, self.encode_any)
                    converter.register_structure_hook(kind, self._structure)
                converter.register_unstructure_hook_func(lambda _: True, self.encode_any)
                converter.register_structure_hook_func(lambda hint: hint not in converter._union_struct_registry, self._structure)
            return self._cattrs

    def _structure(self, native: Any, hint: Any) -> Any:
        return self.form(hint).decode(native)

    def _hooked(self, hint: Any, meant: Any) -> Form | None:
        """The form of hooks for this hint: what is not ours was registered by the user. A direction without one is built in."""
        unstructure = self._cattrs.get_unstructure_hook(hint, cache_result=False)
        structure = self._cattrs.get_structure_hook(hint, cache_result=False)
        encodes, decodes = unstructure != self.encode_any, structure != self._structure
        if not encodes and not decodes:
            return None
        what = f"the hook for {hint_name(hint)}"
        encode = guarded(what, lambda value: self.encode_any(unstructure(value))) if encodes else self._built_in(meant).encode
        decode = guarded(what, lambda native: structure(native, hint)) if decodes else self._built_in(meant).decode
        return Form(hint_name(hint), encode, decode, types=(hint,) if isinstance(hint, type) else (object,))
