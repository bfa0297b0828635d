"""Several processes that train one embedding: how they meet, agree, exchange gradients and notice a lost one.

May import system, settings and the packages between them and this one, but not training, cli or a command.
"""
