"""The API: the endpoint and its pipeline, which do not know the transport, and the gRPC server."""
