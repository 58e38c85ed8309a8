"""Examples: one file or folder a pattern, each with ``async def main(url)`` that returns its result; the tests run them all."""
