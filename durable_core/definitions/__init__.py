"""What a program defines: activities, orchestrators and entities, and the registry that knows them by name.

definition.py    what they share: a function under a name
activity.py      ``Activity``, its decorator and ``ActivityContext``
orchestrator.py  ``Orchestrator`` and its decorator
entity.py        entity classes, their operations and state, ``EntityId``
registry.py      names → definitions, bound to one engine's data converter
wall_clock.py    the check at registration for clocks and randomness in an orchestrator
"""
