"""Messages of the gRPC protocols that Modelport speaks, by file; each module needs `protobuf`."""
