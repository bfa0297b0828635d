"""What a run has left, for people: its figures read back, what they mean in plain words, and pages that show them.

Nothing here imports Paddle, so a folder of results can be looked at within a second.
"""
