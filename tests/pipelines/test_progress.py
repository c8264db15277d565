"""Bars in terminals and notebooks, lines in logs."""

import io
import logging
import threading
from types import SimpleNamespace

import pytest

from pipelines import progress
from pipelines.progress import MessageHandler, progress_bar, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


def notebook_stream():
    """What standard error is in a notebook."""
    return type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()


@pytest.fixture(params=[Terminal, notebook_stream])
def screen(request, monkeypatch):
    monkeypatch.setattr(progress, "_BAR_SECONDS", 0.0)
    stream = request.param()
    # Not `sys.stderr` itself, which pytest changes between a fixture and its test.
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    return stream


@pytest.fixture
def log(monkeypatch, caplog):
    """The log of a job, where standard error is no terminal."""
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=io.StringIO()))
    caplog.set_level(logging.INFO, "pipelines")
    return caplog


def test_a_bar_counts_to_its_end(screen, caplog):
    caplog.set_level(logging.INFO)
    assert list(track(iter("abcd"), "Videos", 4)) == [*"abcd"]
    shown = screen.getvalue().split("\r")
    assert shown[1].startswith("Videos ")
    assert "0/4, ? left" in shown[1]
    assert "4/4, 00:00 left, " in shown[-1]
    assert shown[-1].rstrip().endswith("/s")
    assert caplog.messages == []


def test_a_bar_goes_on_and_says_more(screen):
    with progress_bar("Epochs", 10, done=8) as bar:
        bar.set_postfix_str("loss 0.5", refresh=False)
        bar.update()
        assert " 9/10, " in screen.getvalue()
        assert screen.getvalue().endswith(", loss 0.5")


def test_a_transient_bar_is_gone(screen):
    list(track("abcd", "Videos", transient=True))
    assert "4/4" in screen.getvalue()
    assert screen.getvalue().endswith(" \r")


def test_a_bar_without_a_total(screen):
    list(track((item for item in "abc"), "Frames"))
    assert "3/?" in screen.getvalue()


@pytest.mark.parametrize(("items", "disable"), [([], False), ("abc", True)])
def test_nothing_is_shown_where_nothing_is_to_do(screen, items, disable):
    list(track(items, "Videos", disable=disable))
    assert screen.getvalue() == ""


def test_a_log_has_a_line_at_the_end(log):
    list(track("abcd", "Videos"))
    (line,) = log.messages
    assert line.startswith("Videos: 4/4 after 00:00, 00:00 left, ")
    assert line.endswith("/s")
    assert log.records[0].name == "pipelines.progress"
    assert progress.sys.stderr.getvalue() == ""


def test_a_log_has_a_line_now_and_then(log, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    with progress_bar("Epochs", 4, done=2) as bar:
        bar.set_postfix_str("loss 0.5", refresh=False)
        bar.update()
        bar.update()
    first, last = log.messages
    assert first.startswith("Epochs: 3/4 after ")
    assert first.endswith("/s, loss 0.5")
    assert last.startswith("Epochs: 4/4 after ")


def test_a_log_has_no_line_of_a_short_transient_bar(log):
    list(track("abcd", "Videos", transient=True))
    assert log.messages == []


def test_bars_and_messages_of_several_threads_do_not_wait_for_each_other(screen, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    handler = MessageHandler()
    logger = logging.getLogger("pipelines")
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "level", logging.INFO)
    monkeypatch.setattr(screen, "isatty", lambda: False)

    def count():
        with progress_bar("Videos", 500) as bar:
            for _ in range(500):
                bar.update()
                logger.info("a video")

    threads = [threading.Thread(target=count, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)


def test_messages_stand_above_the_bar(screen):
    logger = logging.getLogger("tests.progress")
    handler = MessageHandler()
    logger.addHandler(handler)
    try:
        for item in track("ab", "Videos"):
            if item == "a":
                logger.warning("a broken %s", "video")
    finally:
        logger.removeHandler(handler)
    before, after = screen.getvalue().split("a broken video\n")
    assert before.endswith(" \r")  # the bar is cleared,
    assert after.lstrip("\r").startswith("Videos ")  # and drawn again below
