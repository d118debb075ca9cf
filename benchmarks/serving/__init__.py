"""How fast `modelport serve` is beside the machine's limit and other servers."""
