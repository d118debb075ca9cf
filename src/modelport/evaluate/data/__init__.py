"""Data with known answers, read from the forms in which people keep them."""
