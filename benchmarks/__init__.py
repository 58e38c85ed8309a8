"""Benchmarks through the public API, each history audited afterwards. See ``python -m benchmarks --help`` and README.md here."""
