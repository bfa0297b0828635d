"""How much memory this process takes at the most."""

import sys

try:
    import resource
except ImportError:  # Windows
    resource = None


def peak_memory() -> int:
    """Bytes of memory that this process has had at the most so far; 0 where the system does not say."""
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
