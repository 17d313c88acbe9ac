"""Property tests: no deadline for one example, whatever else the machine does, and the same examples each time.

LUNETTE_EXPLORE=1 tries others, as long runs do: what those find is for people, and no chance in anybody's change.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("lunette", deadline=None, derandomize=not os.environ.get("LUNETTE_EXPLORE"),
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lunette")
