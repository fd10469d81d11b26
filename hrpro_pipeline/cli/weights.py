"""`hrpro weights`."""

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hrpro_pipeline.commands.weights import Action


@click.command()
@click.argument("action", type=click.Choice(["list", "download", "verify"]), default="list")
def weights(action: "Action") -> None:
    """List the weights of all feature networks; download or verify those of I3D, and verify the others that are there.

    \b
    Example:
      hrpro weights download
    """
    from hrpro_pipeline.commands.weights import check_weights

    rows = check_weights(action)
    for row in rows:
        click.echo(row.text)
    if not all(row.ok for row in rows):
        sys.exit(1)
