"""Attacks on the commands, by the rule that holds them off: who makes them, how they run, what came of each.

attack         an attack, and the harmless things that it is made from
embeddings     files that cost more than they hold
base_models    configurations, tokenizers and weights that are wrong, or announce what no model has
records        run.json, checkpoints and manifests of strangers
inputs         images, captions, templates, prompts, and paths that are no files
running        a process for each attack, forked after the imports, and what it took
"""
