"""``python -m aunet.cli``."""

from aunet.cli import main

main()
