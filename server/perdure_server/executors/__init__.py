"""Executors: what runs the code of steps. ``in_process`` is the first client of the dispatcher's tasks."""
