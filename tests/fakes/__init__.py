"""Servers that play the outside world. Each is a context manager on a free port of 127.0.0.1."""
