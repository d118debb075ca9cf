"""Are these two the same model? Golden cases and their replay."""
