"""`python -m hrpro_pipeline` is `hrpro`."""

from hrpro_pipeline.cli import main

if __name__ == "__main__":
    main(prog_name="hrpro")
