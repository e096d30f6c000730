"""`python -m moe_pipeline` is `moe`."""

from moe_pipeline.cli import main

main()
