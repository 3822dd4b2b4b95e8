"""A fitted head run by ONNX Runtime: torch is not imported here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from world_model.bundle import Manifest, bundle_sha256
from world_model.heads.card import GRAPH, HeadError, read_card
from world_model.protocol import F32

_BATCH = 4096


class HeadGraph:
    """A graph from latents ``(N, D)`` to values ``(N, ...)``, from its bytes; ``name`` is for messages.

    Raises:
        HeadError: ONNX Runtime refuses it, or it is not such a graph.
    """

    def __init__(self, content: bytes, name: str, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a class for each status, without a common one
            raise HeadError(f"{name} cannot be run: {' '.join(str(error).split())}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [value.name for value in inputs] != ["latents"] or len(inputs[0].shape) != 2 or len(outputs) != 1:
            raise HeadError(f"{name} does not map latents (N, D) to values")
        self.latent_dim = inputs[0].shape[1]

    def __call__(self, latents: F32) -> F32:
        """Values ``(N, ...)`` of ``latents (N, D) float32``."""
        parts = [self._session.run(None, {"latents": latents[begin : begin + _BATCH]})[0] for begin in range(0, max(1, len(latents)), _BATCH)]
        return np.concatenate(parts)


class OnnxHead:
    """A head from its folder.

    Args:
        folder: what ``latent-mpc head fit`` wrote.
        manifest: that of the bundle whose latents it will read; None reads latents of unknown origin, for measuring only.
        threads: of ONNX Runtime.

    Raises:
        HeadError: the head is damaged, or was fitted on another model.
    """

    def __init__(self, folder: str | Path, manifest: Manifest | None = None, threads: int = 1) -> None:
        self.folder = Path(folder)
        self.card = read_card(self.folder)
        if manifest is not None and self.card.model_sha256 not in (bundle_sha256(manifest), manifest.provenance.get("run_sha256")):
            raise HeadError(f"{self.folder} was fitted on another model than '{manifest.name}', whose latents mean something else; fit it anew")
        file = self.folder / GRAPH
        self._graph = HeadGraph(file.read_bytes(), str(file), threads)
        if self._graph.latent_dim != self.card.latent_dim:
            raise HeadError(f"{file} reads latents of {self._graph.latent_dim}, its description says {self.card.latent_dim}")

    @property
    def name(self) -> str:
        """How it is called in messages."""
        return self.card.name

    @property
    def unit(self) -> str:
        """Unit of its outputs."""
        return self.card.unit

    def values(self, latents: F32) -> F32:
        """Outputs ``(N, ...)`` for ``latents (N, D) float32``."""
        return self._graph(latents)

    def margins(self, latents: F32) -> NDArray[np.float32]:
        """How far ``latents (N, D)`` are from being taken for forbidden, ``(N,)``, in the head's unit; at least 0 is safe.

        Raises:
            HeadError: the head is no guardrail, or was not calibrated.
        """
        if self.card.kind != "guardrail" or self.card.threshold is None:
            raise HeadError(f"{self.folder} is a {self.card.kind} head: only a calibrated guardrail has margins")
        margin: NDArray[np.float32] = self.values(latents)[:, 0] - np.float32(self.card.threshold)
        return margin
