"""What can be set: every flag with its meaning, allowed values and bounds, and the frozen settings of each command.

Imports `system` and `formats` only, and never paddle: `--help` and refusals answer at once.
"""
