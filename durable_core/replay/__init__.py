"""The deterministic machine: it runs an orchestrator on a loop of its own, records what it asks for, and runs it again from the record.

machine.py          Execution: (history, messages, orchestrator) → turn
context.py          OrchestrationContext, the orchestrator's view
loop.py             the event loop;  futures.py: futures and tasks with an order;  closing.py: ending code in memory
calls.py            retries, timeouts, external events;  fan_in.py: when_all, when_any
primitives.py       asyncio's functions that differ from Python to Python, as our own;  synchronisation.py: its classes
substitution.py     puts these where asyncio's are found
matching.py         code against history;  arguments.py: and the arguments;  source.py: lines of user code for messages
"""
