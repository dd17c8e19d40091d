"""``python -m fairsynth`` is the command line."""

from fairsynth.cli import main

main()
