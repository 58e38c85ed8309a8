"""Stores that break one promise each, and what proves that the suite notices.

    flaw.py      what a flaw is, and the list of them all
    memory.py    the store in memory behind a thin layer of mistakes
    sqlite.py    the real code of the SQLite store, with a line left out
    postgres.py  the real code of the PostgreSQL store, with a line left out
    edited.py    how a line is left out

``python -m durable_conformance.teeth`` runs the suite on each. Every module also has an unbroken twin, the same layer without a mistake,
which has to pass: so what is found is the mistake, not the layer.
"""
