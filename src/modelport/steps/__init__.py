"""Pre- and post-processing as data, compiled to standard ONNX operators, and decoding on the host."""
