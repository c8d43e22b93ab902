"""``python -m plugbay``."""

from plugbay.cli import main

if __name__ == "__main__":
    main()
