"""The worker.

worker.py          claims and heartbeat of one incarnation
runner.py          an instance in a worker's hands, from the claim through its commits;  live.py: its data
orchestrations.py  turns of orchestrations;  commits.py: from a turn to a storage command
entities.py        turns of entities
activities.py      running activities;  processes.py: where those of processes run
guard.py           no I/O in turns
"""
