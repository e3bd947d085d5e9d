"""`python -m tl_jax VERB ...` is the same as `tl-jax VERB ...`.

>>> from tl_jax.cli.main import main
>>> callable(main)
True
"""

from tl_jax.cli.main import main

if __name__ == '__main__':
  raise SystemExit(main())
