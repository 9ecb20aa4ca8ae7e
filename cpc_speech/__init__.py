"""Contrastive Predictive Coding on raw speech: model, negatives, loss, windows, training, probes, reports."""

__version__ = "0.1.0"
