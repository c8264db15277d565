"""The progress bar of what takes long: how much is done, and the time that remains."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(*, disable: bool = False, transient: bool = False) -> Progress:
    """A bar a task on the standard error stream, for counted work.

    Args:
        disable: Show nothing.
        transient: Leave nothing on the terminal at the end.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=disable or console.is_jupyter,  # where it would need ipywidgets
        transient=transient,
    )
