"""What can be set: every flag with its meaning, allowed values and bounds, and the frozen settings of each command.

May import system and formats, and never paddle, so that `--help` and refusals answer at once.
"""
