"""A summary of labels as a small HTML page without scripts."""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color-scheme:light dark}"
    "table{border-collapse:collapse;margin:1em 0}th,td{padding:.2em .8em;text-align:left;border-bottom:1px solid #8885}"
    "td{font-variant-numeric:tabular-nums}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def summary_page(title: str, tables: Iterable[tuple[str, Sequence[str], Iterable[Sequence[str]]]]) -> str:
    """The page; every text is escaped.

    Args:
        title: of the page.
        tables: heading, names of the columns and rows of each.
    """
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>",
    ]
    for heading, columns, rows in tables:
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
        parts.append(f"<h2>{escape(heading)}</h2>\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>")
        parts += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
        parts.append("</tbody>\n</table>")
    return "\n".join([*parts, "</body>\n</html>\n"])
