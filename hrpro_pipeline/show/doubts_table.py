"""Labels worth a second look as a table in HTML."""

from collections.abc import Sequence
from html import escape

from hrpro_pipeline.data.suggestions import Suggestion

# More are in the CSV.
_MOST_ROWS = 200


def doubts_table(doubts: Sequence[Suggestion]) -> str:
    """A folded table, one row a label; nothing without doubts."""
    if not doubts:
        return ""
    rows = "".join(
        f"<tr><td>{escape(item.video_id)}</td><td>{item.seconds:.2f} s</td><td>{escape(item.label)}</td>"
        f"<td>{escape(_meaning(item))}</td><td>{item.score:.2f}</td></tr>"
        for item in doubts[:_MOST_ROWS]
    )
    shown = f", the first {_MOST_ROWS} of them" if len(doubts) > _MOST_ROWS else ""
    count = f"{len(doubts):,} label{'' if len(doubts) == 1 else 's'} worth a second look{shown}"
    head = "".join(f'<th scope="col">{name}</th>' for name in ("video", "time", "class", "what", "score"))
    return (
        f'<details id="doubts"><summary>{count}</summary><div class="scroll tall"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _meaning(item: Suggestion) -> str:
    if item.kind == "misplaced":
        if item.suggested_label:
            return f"point looks misplaced; rather {item.suggested_label}?"
        if item.suggested_seconds is not None:
            return f"point looks misplaced; rather at {item.suggested_seconds:.2f} s?"
        return "point looks misplaced"
    return "action looks forgotten" if item.kind == "forgotten" else "likely action in a video without points"
