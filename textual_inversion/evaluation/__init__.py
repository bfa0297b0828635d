"""How well a concept was learned: CLIP features, and scores from them.

May import everything that generation may import, and generation.
"""
