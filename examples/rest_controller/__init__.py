"""A web service in front of orchestrations, which run in another process.

    python -m examples.rest_controller.worker sqlite:///orders.db
    DURABLE_URL=sqlite:///orders.db uvicorn --factory examples.rest_controller.app:app_from_environment

    app.py       the web service: its engine is a client only
    worker.py    the process that works
    run.py       ``main(url)``: starts both and talks to the service over HTTP

The orchestrator is that of ``parallel_work_items.py``.
"""

from examples.rest_controller.run import main as main
from examples.rest_controller.run import without_engine as without_engine
