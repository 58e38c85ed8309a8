"""A backend for a store that is neither SQL nor memory: a folder of plain files. The worked example of docs/backend-authors.md.

    backend.py   the nine methods
    part.py      what one call has in hand: rows read as ``hub.needs`` says, decided by the hub, and what has to be written
    layout.py    which row lies in which file
    log.py       several files change together or not at all
    disk.py      write, sync, rename, remove: the four things that are done to a disk; the lock; what ``OSError`` means
    testing.py   the harness for the conformance kit

There are no rules in here: ``durable_core.hub`` decides, this package reads and writes files.
"""

from examples.custom_backend.backend import FilesBackend as FilesBackend
from examples.custom_backend.backend import open_backend as open_backend
