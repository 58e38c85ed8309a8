"""Where real time, threads, processes and a store come in: the engine, its worker and its client.

engine.py          DurableEngine: definitions, opening and closing;  session.py: what exists while it is open
client.py          DurableClient and OrchestrationHandle;  records.py, reads.py, waiters.py: what it reads and waits for
worker.py          claims and heartbeat of one incarnation
runner.py          an instance in a worker's hands, from the claim through its commits;  live.py: its data
orchestrations.py  turns of orchestrations;  commits.py, from a turn to a storage command
entities.py        turns of entities;  snapshots.py: their stored form
activities.py      running activities;  threads.py, processes.py: where they run
committer.py       group commit
guard.py           no I/O in turns
clock.py, options.py, signals.py, stores.py
"""
