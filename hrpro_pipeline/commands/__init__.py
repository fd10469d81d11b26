"""One public function a command: what `hrpro NAME` does, for Python."""
