"""`modelport optimize` beside Olive, ONNX Runtime's guide, NNCF with OpenVINO, and Ultralytics' export."""
