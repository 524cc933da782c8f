"""The progress bar of a running cell; nothing at all where there is no terminal."""

from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from specdec_bench.report.console import console
from specdec_bench.runner import messages


class RunProgress:
    """Shows finished requests, tokens per second and the running acceptance length."""

    def __init__(self, *, disable: bool = False) -> None:
        screen = console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rates]}"),
            console=screen,
            transient=True,
            disable=disable or not screen.is_terminal,
        )
        self._task = self._progress.add_task("starting the engine", total=None, rates="")

    def __enter__(self) -> "RunProgress":
        """Starts drawing."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Removes the bar."""
        self._progress.stop()

    def update(self, progress: messages.Progress) -> None:
        """Draws the state that the measuring process told."""
        rate = progress.output_tokens / progress.elapsed_s if progress.elapsed_s else 0.0
        rates = f"{rate:,.0f} tokens/s"
        if progress.decode_steps:
            rates += f" · acceptance length {progress.decoded_tokens / progress.decode_steps:.2f}"
        for outcome, number in (("failed", progress.failed), ("skipped", progress.skipped)):
            if number:
                rates += f" · {number} {outcome}"
        self._progress.update(
            self._task,
            description="warming up" if progress.phase == "warmup" else "measuring",
            total=progress.total if progress.phase == "measure" else None,
            completed=progress.finished + progress.failed + progress.skipped,
            rates=rates,
        )
