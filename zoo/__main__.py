"""`python -m zoo`: the `lightning` command, for machines where another package took that name."""

import sys

from zoo.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
