"""The user's own hooks, kept in a cattrs converter.

Whatever cattrs knows by itself is replaced in it by our forms, so that a hook which calls ``converter.structure(part,
list[int])`` is as strict as the rest. What is neither ours nor cattrs' was registered by the user, and goes before
everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from cattrs import Converter

from durable_core.forms.form import Fault, Form, Function
from durable_core.forms.hints import hint_name

_BY_CLASS_IN_CATTRS = (str, bytes, int, float, Path, Enum)
"""What cattrs, in one version or another, looks up before any predicate is asked."""


class Hooks:
    def __init__(self, form: Callable[[Any], Form], encode_any: Function) -> None:
        self.converter = Converter()

        def structure(native: Any, hint: Any) -> Any:
            return form(hint).decode(native)

        self._unstructure, self._structure = encode_any, structure
        for kind in _BY_CLASS_IN_CATTRS:
            self.converter.register_unstructure_hook(kind, encode_any)
            self.converter.register_structure_hook(kind, structure)
        self.converter.register_unstructure_hook_func(lambda _: True, encode_any)
        self.converter.register_structure_hook_func(lambda hint: hint not in self.converter._union_struct_registry, structure)

    def form(self, hint: Any, built_in: Callable[[], Form]) -> Form | None:
        """The form of the user's hooks, if there are any for this hint; a direction without one is built in."""
        unstructure = self.converter.get_unstructure_hook(hint, cache_result=False)
        structure = self.converter.get_structure_hook(hint, cache_result=False)
        encodes, decodes = unstructure is not self._unstructure, structure is not self._structure
        if not encodes and not decodes:
            return None
        name, encode_any = hint_name(hint), self._unstructure
        encode = _guarded(name, lambda value: encode_any(unstructure(value))) if encodes else built_in().encode
        decode = _guarded(name, lambda native: structure(native, hint)) if decodes else built_in().decode
        return Form(name, encode, decode, types=(hint,) if isinstance(hint, type) else (object,))


def _guarded(name: str, hook: Function) -> Function:
    def guarded(value: Any) -> Any:
        try:
            return hook(value)
        except Fault:
            raise
        except Exception as error:
            raise Fault(f"the hook for {name} raised {type(error).__name__}: {error}") from error

    return guarded
