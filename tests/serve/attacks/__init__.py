"""One file for each class of attack on a model server, A1 to A18; each against the real server."""
