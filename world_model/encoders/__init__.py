"""Encoders: a picture becomes one token or many. One base class; `registry.build_encoder` is the one place to add another."""
