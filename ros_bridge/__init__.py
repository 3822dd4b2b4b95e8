"""The ground: arrays to messages and back, quality of service, parameters, diagnostics."""
