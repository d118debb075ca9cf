"""Front ends over the engine: the Open Inference Protocol, /predict, and the pages."""
