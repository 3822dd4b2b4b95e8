"""Encoders: a picture becomes a latent vector. One protocol; `registry.build_encoder` is the one place to add another."""
