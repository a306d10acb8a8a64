"""Log lines of the libraries, switched off: at debug level they hold headers and bodies, keys and prompts included."""

from __future__ import annotations

import logging

LIBRARIES = ("httpx2", "httpcore2", "botocore", "boto3", "s3transfer", "urllib3")


def switch_off() -> None:
    """No line of theirs is written, whatever the level. Idempotent.

    On Lambda a log level of DEBUG holds for every library.
    """
    loggers = logging.root.manager.loggerDict
    for name in [*LIBRARIES, *(name for name in loggers if name.partition(".")[0] in LIBRARIES)]:
        logger = logging.getLogger(name)
        logger.disabled = True
        if name in LIBRARIES:
            logger.setLevel(logging.CRITICAL)  # for their loggers that are yet to be made
