"""What the library tells through logging."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def warned(match: str, logger: str = "pipelines") -> Iterator[None]:
    """As `pytest.warns` has it: a warning is logged that matches."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger(logger).addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger(logger).removeHandler(handler)
    assert any(re.search(match, message) for message in messages), messages
