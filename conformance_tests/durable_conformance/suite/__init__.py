"""The conformance suite: ``pytest --pyargs durable_conformance.suite --durable-backend URL``. Which bug of other projects each test comes
from is in docs/conformance.md."""
