"""``python -m perdure_server.cli``: the command line, where the installed command is not on the path."""

import sys

from perdure_server.cli import main

sys.exit(main())
