"""The command lines: from arguments and configuration files to complete, checked settings.

May import every package but commands and api. `--help` must not import paddle.
"""
