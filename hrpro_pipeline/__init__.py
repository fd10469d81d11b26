"""hrpro: from raw untrimmed videos and one labelled point per action to a trained temporal action detector."""

__version__ = "0.1.0"
