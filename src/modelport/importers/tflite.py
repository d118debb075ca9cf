"""TensorFlow Lite models (`.tflite`), in floats and quantised, with their metadata."""

from __future__ import annotations

from typing import Any

from .converted import ConvertedImporter
from .source import file_head

MAGIC = b"TFL3"


class TFLiteImporter(ConvertedImporter):
    """Converted by tf2onnx; compared with TensorFlow Lite's interpreter."""

    environment = "tensorflow"
    converter = "tflite"
    what = "a TensorFlow Lite model"

    def recognises(self, source: Any) -> bool:
        """By the FlatBuffer's file identifier."""
        return file_head(source, 8)[4:] == MAGIC
