"""Many trainings on many machines: searches and lists of concepts, whose runs Ray spreads over a cluster.

Nothing here imports paddle: what is trained, scored and drawn is done by the commands, as child processes.
"""
