"""How long tests wait for what must come: far longer than a slow or busy machine takes, so that only a hang ends it."""

HANG = 1200.0  # seconds
