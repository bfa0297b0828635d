"""Attacks on the commands, by the rule that holds them off: who makes them, how they run, what came of each.

`attack` is an attack and the kit of harmless things that it is made from; `embeddings`, `base_models`, `records`,
`inputs`, `conversions` and others make them; `helpers.attack_commands` forks a process for each, and says what came of
it.
"""
