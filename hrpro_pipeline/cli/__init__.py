"""The command line: options turned into calls of `hrpro_pipeline.commands`, a module for each command.

A command's module is loaded when it is called, and heavy imports happen inside it, so that `hrpro --help` is quick.
"""

from hrpro_pipeline.cli.group import main

__all__ = ["main"]
