"""Where real time, threads, processes and a store come in: the engine, its worker and its client.

engine.py          DurableEngine: definitions, opening and closing
client/            what a client starts, sends and asks
worker/            claims, turns, activities
requests.py        what clients and entities ask of others;  fresh.py: new ids;  threads.py: where synchronous code runs
session.py         what exists while an engine is open, shared by both
committer.py       group commit;  reads.py: reading in pages;  waiters.py: who waits for which instance
patience.py        how long a client waits for the store;  outage.py: the store goes away and comes back, told once
supervisor.py      background loops are watched
clock.py, options.py, signals.py, stores.py
"""
