"""The client.

client.py          DurableClient and OrchestrationHandle: starting, asking, waiting
lifecycle.py       what is done to instances that exist
entities.py        entities from outside
sender.py          what all of these are made of
records.py         what a client sees of an instance
"""
