"""The command line: options turned into calls of `hrpro_pipeline.commands`, a module for each command.

Heavy imports happen inside the commands, so that `hrpro --help` is quick.
"""

from hrpro_pipeline.cli.ablation import ablate
from hrpro_pipeline.cli.convert import convert
from hrpro_pipeline.cli.demo import demo
from hrpro_pipeline.cli.detect import detect
from hrpro_pipeline.cli.evaluate import evaluate
from hrpro_pipeline.cli.extract import extract
from hrpro_pipeline.cli.figures import figures
from hrpro_pipeline.cli.group import main
from hrpro_pipeline.cli.imports import import_group
from hrpro_pipeline.cli.info import info
from hrpro_pipeline.cli.points import points
from hrpro_pipeline.cli.report import report
from hrpro_pipeline.cli.summary import summary
from hrpro_pipeline.cli.train import train
from hrpro_pipeline.cli.weights import weights

__all__ = ["main"]

for command in (
    *(ablate, convert, demo, detect, evaluate, extract, figures),
    *(import_group, info, points, report, summary, train, weights),
):
    main.add_command(command)
