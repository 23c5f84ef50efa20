"""``python -m seq2seq_ext`` is the command ``seq2seq-ext``."""

import sys

from seq2seq_ext.cli import main

sys.exit(main())
