"""What the server tells its operators. A leaf: it knows no floor of the server."""
