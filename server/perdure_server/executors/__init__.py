"""Executors run the handlers of steps. ``in_process`` runs them in the server's process."""
