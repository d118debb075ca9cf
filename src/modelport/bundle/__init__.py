"""The artefact on disk: what a bundle says (manifest), how it is kept (store), what it may hold (audit)."""
