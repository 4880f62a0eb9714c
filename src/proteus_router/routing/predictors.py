"""Which class a saved predictor belongs to, and the encoder it needs."""

from __future__ import annotations

from proteus_router.routing.predictor import HeadsPredictor
from proteus_router.types import Arrays, Meta, Predictor

__all__ = ["load_predictor"]


def load_predictor(arrays: Arrays, meta: Meta) -> Predictor:
    """Rebuild a predictor from its saved state; loads the encoder that it names.

    Raises
    ------
    EncoderError
        The encoder is not installed, or not the one it was trained with.
    """
    encoder = None
    if meta["encoder"] is not None:
        # Only here: a lexical router must not pay for onnxruntime or torch.
        from proteus_router.encoders import load_encoder

        encoder = load_encoder(meta["encoder"]["name"], expected_fingerprint=meta["encoder"]["fingerprint"])
    if meta.get("kind") == "paper":
        from proteus_router.routing.policy_net import PaperPredictor

        return PaperPredictor.from_state(arrays, meta, encoder=encoder)
    return HeadsPredictor.from_state(arrays, meta, encoder=encoder)
