"""Graphs in fp16 and int8, and what says whether they may be used. `conversion.convert` is the story; `gates` are the bounds."""
