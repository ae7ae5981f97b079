"""``python -m speechmm`` is the ``speechmm`` program."""

import sys

from speechmm.cli.main import main

sys.exit(main())
