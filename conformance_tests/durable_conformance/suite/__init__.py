"""The conformance suite: ``pytest --pyargs durable_conformance.suite --durable-backend URL``."""
