"""The conformance kit: is a store a backend of durable-core?

    pytest --pyargs durable_conformance.suite --durable-backend sqlite:///:temp: --profile full --certificate out.json

    plugin.py       the options; which tests run on which store; what was found
    harness.py      what a backend's author supplies beside the backend
    properties.py   what is tested, by number and name
    certificate.py  what was found, for machines and for people
    driver.py       a store under test, with the commands that tests send most
    machine.py      random programs to a store and to ``durable_core.hub`` side by side; recipes.py: their commands;
                    worlds.py: what may have become of those that were not answered
    workload.py     several workers at once, and a check of what they were told
    faults.py       lost replies, repeated calls, dropped wake-ups, death: between a store and who uses it
    programs.py     orchestrators, one a feature; scenarios.py: what a client does with them; cluster.py: two workers of which one dies
    processes.py    processes of the suite; child.py: what they do
    memory.py       the harness of the store in memory
    broken/         stores that break one promise each; teeth.py: the suite has to fail them; simulated.py: the simulation has to
    suite/          the tests

docs/conformance.md is for authors of backends. This module imports nothing: it is on the way to the plugin, which pytest loads for
everybody.
"""
