"""A simulation of the whole engine. So far: what must hold of every step of a hub (invariants.py)."""
