"""Who may reach the server, and over what: where it listens, TLS. A leaf: it knows no floor of the server."""
