"""`python -m maam` is the `maam` command."""

from maam.cli import main

if __name__ == "__main__":
    main()
