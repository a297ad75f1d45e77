"""File descriptors: a service takes as many as it may have, for each connection needs one."""

from __future__ import annotations

import logging
import resource
from contextlib import suppress
from typing import Final

from specfuse.rpc.server import MAX_CONNECTIONS

_OWN: Final = 128
"""What a service holds beside its connections: libraries, pipes, files, listening sockets."""

_logger = logging.getLogger(__name__)


def raise_descriptor_limit(connections: int = 0) -> None:
    """Raises this process's soft limit of open files to the hard one.

    Says so if even that is less than callers and `connections` to others may come to.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = MAX_CONNECTIONS + connections + _OWN
    if limit != resource.RLIM_INFINITY and limit < needed:
        _logger.warning(
            "at most %d files can be open, but %d connections of callers and %d to members may "
            "need %d: raise the hard limit (ulimit -Hn, LimitNOFILE=)",
            limit,
            MAX_CONNECTIONS,
            connections,
            needed,
        )
