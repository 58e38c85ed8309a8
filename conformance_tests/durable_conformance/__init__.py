"""The conformance kit: is a store a backend of durable-core?

    pytest --pyargs durable_conformance.suite --durable-backend sqlite:///:temp:

    plugin.py       the options; which tests run on which store
    harness.py      what a backend's author supplies beside the backend
    properties.py   what is tested, by number and name
    driver.py       a store under test, with the commands that tests send most
    machine.py      random programs to a store and to ``durable_core.hub`` side by side; recipes.py: their commands
    memory.py       the harness of the store in memory; broken.py: stores that break one promise each
    suite/          the tests

This module imports nothing: it is on the way to the plugin, which pytest loads for everybody.
"""
