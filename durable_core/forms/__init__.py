"""How a value of one type travels as JSON: the strict rules behind ``converter.JsonConverter``.

    form.py        ``Form``: one type hint, compiled; ``Fault``: what was wrong, and where; type hints taken apart
    scalars.py     int, str, …; what travels as a string: Decimal, datetime, UUID, bytes, Path; Enum and Literal
    containers.py  list, tuple, set, dict
    records.py     attrs classes, dataclasses, msgspec.Struct, NamedTuple, TypedDict
    models.py      pydantic models
    unions.py      unions, and why some are refused
    compiler.py    ``Forms``: hint -> form, compiled once; asks the others, and the user's cattrs hooks first

Encoding and decoding of one kind of type stand next to each other, because each must accept exactly what the other
makes. cattrs by itself does not do: it encodes by the class of the value, whatever the hint says, and knows no place
to name in an error. It is used for what it is good at: it holds the user's hooks for types of their own.
"""
