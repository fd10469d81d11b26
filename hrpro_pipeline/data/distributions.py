"""How points can be drawn from segments: names that the command line offers without loading what draws."""

from typing import Literal

Distribution = Literal["uniform", "center", "gaussian", "human"]
