"""The Open Inference Protocol over gRPC, beside the HTTP server in the same process and event loop."""
