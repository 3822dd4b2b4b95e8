"""Predictors: from latents and actions to the latents that follow. One base class; `registry.build_predictor` is the one place to add another."""
