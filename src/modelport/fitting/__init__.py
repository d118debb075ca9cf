"""Which steps a preprocessing function of the user's is, found by asking it: pictures in, arrays out."""
