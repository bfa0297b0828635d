"""The page: teach, watch, draw and keep words in a browser, over the same commands.

Only `pages` knows Streamlit; everything else here is tested without it. Nothing here imports paddle but `worker`, which
is a process of its own. May import every package but api.
"""
