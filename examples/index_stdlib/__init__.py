"""An index of Python's own standard library, made by a fan-out that survives being killed.

    python -m examples.index_stdlib           (``make demo``; FRESH=1 starts over)

Stop it with Ctrl-C or ``kill -9`` as often as you like: the next start says what it found done and goes on from there,
and the table at the end is the same as without the interruption.

    records.py     the data, and how two partial indexes become one
    analysis.py    what is counted in one file
    workflow.py    the engine's definitions: activities, the progress entity, the orchestrators. Start here
    run.py         ``main(url)``: opens the engine, starts or finds the run, waits for its end
    display.py     the progress bar and the table
    __main__.py    the command line
"""
