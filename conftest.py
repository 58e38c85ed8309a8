"""What every test run of this repository shares: the hypothesis profiles.

* ``dev`` (default): fresh random examples each time; what a developer runs by hand finds new cases.
* ``ci``: the same examples every time, so that a red run is red for everybody and no change fails by bad luck.
* ``soak``: many random examples, for the nightly hours.

No profile has a deadline (machines differ; a performance claim is a benchmark, never a test), and all print the
blob that repeats a failure.
"""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

_common = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", _common)
settings.register_profile("ci", _common, derandomize=True)
settings.register_profile("soak", _common, max_examples=2_000)
settings.load_profile("dev")

# A run in the background inherits that Ctrl-C is ignored. The tests of Ctrl-C start programs, and those inherit it from here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
