"""What users see when something is wrong: one line that names the thing and the remedy."""

from collections.abc import Sequence


class HrproError(Exception):
    """An error a user can act on; the command line prints its text alone and exits with 1."""


class UsageError(HrproError):
    """Options that are wrong whatever the data: the command line exits with 2."""


class ProblemsError(HrproError):
    """Everything that is wrong with one input, reported at once.

    Args:
        subject: the file or folder that was checked.
        problems: one line each; every line names the line, key or video and what was expected.
    """

    def __init__(self, subject: str, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        if len(self.problems) == 1:
            text = f"{subject}: {self.problems[0]}"
        else:
            listed = "\n".join(f"  - {problem}" for problem in self.problems)
            text = f"{subject}: {len(self.problems)} problems\n{listed}"
        super().__init__(text)


def one_line(error: Exception, limit: int = 160) -> str:
    """An exception in a line of at most `limit` characters."""
    # FFmpeg's errors carry a number that tells nobody anything.
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
