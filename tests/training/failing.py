"""`rwkv-edge` whose second process fails in the first step."""

from __future__ import annotations

import os
from unittest import mock

from rwkv_edge.cli import main
from rwkv_edge.errors import OutputError

if __name__ == "__main__":
    failure = mock.Mock(side_effect=OutputError("the disk of this process is gone"))
    if os.environ["RANK"] == "1":
        mock.patch("rwkv_edge.training.step.augment", failure).start()
    main()
