"""Model packs: the card type, loading, and the ONNX Runtime engine; the embedded packs lie beside as package data."""

from unmask.packs.card import Calibration, CalibrationBin, Card, Metric, OperatingPoint
from unmask.packs.loading import Pack, embedded_packs, load_pack

__all__ = ["Calibration", "CalibrationBin", "Card", "Metric", "OperatingPoint", "Pack", "embedded_packs", "load_pack"]
