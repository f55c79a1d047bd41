"""The gRPC face: converts, calls the runtime, converts back."""
