"""One of several processes that `torch.distributed.run` starts: a tiny training, as test_training_processes.py asks for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tiny_runs import silent, tiny_config

from world_model.training import train


def main() -> None:
    """``train_in_many.py DATA OUT CHANGES``: the tiny configuration with ``CHANGES``, JSON."""
    data, out, changes = sys.argv[1:]
    train(tiny_config(**json.loads(changes)), [Path(data)], Path(out), silent)


if __name__ == "__main__":
    main()
