"""The `tl-jax` command line: the only place that parses flags, prints and exits.

>>> from tl_jax.cli.main import main
>>> main(['steps', '--hlep'])
2
"""
