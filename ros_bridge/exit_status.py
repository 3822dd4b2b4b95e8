"""How a process says to whoever started it how it ended."""

OK_STATUS = 0
BAD_INPUT_STATUS = 2
