"""`hrpro label`."""

from pathlib import Path

import click

from hrpro_pipeline.cli import options


@click.command()
@click.argument("paths", nargs=-1, required=True, type=str, metavar="PATH...")
@click.option("--points", required=True, type=options.OutputFile, help="CSV of the points; made if it is not there.")
@click.option("--suggest", type=options.Existing, help="Moments to look at, one by one: of `hrpro suggest`, or a RUN.")
@click.option("--detections", type=options.Existing, help="DETECTIONS of a model, to confirm or correct.")
@click.option("--class", "classes", multiple=True, metavar="NAME", help="A class to offer from the start (repeatable).")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="To listen on.  [default: any that is free]")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page in the browser.")
def label(
    paths: tuple[str, ...],
    points: Path,
    suggest: Path | None,
    detections: Path | None,
    classes: tuple[str, ...],
    port: int,
    browser: bool,
) -> None:
    """Set points in videos in the browser: one key press while it plays is one saved point.

    The page is served on this machine alone, at an address that only you know; nothing leaves it. End it by Ctrl-C.

    \b
    Example:
      hrpro label videos/ --points points.csv
    """
    import webbrowser

    from hrpro_pipeline.commands.label import label_videos

    def ready(address: str) -> None:
        click.echo(address)
        click.echo("Open this address in a browser on this machine; Ctrl-C ends it.", err=True)
        if browser:
            webbrowser.open(address)

    count = label_videos(
        *(paths, points), suggest=suggest, detections=detections, classes=classes, port=port, on_ready=ready
    )
    click.echo(f"{points}: {count} points")
