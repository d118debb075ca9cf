"""The protocols that people already speak, one thin file each over the same engine."""
