"""Requests to batches and back: a pure queue, the batcher around it, and the live versions of models."""
