"""What runs where the compute is: in clusters, on rented machines, on workers. Speaks HTTP to the platform, nothing else.

Imports nothing of the server and, as far as possible, nothing but the standard library.
"""

__version__ = "1.0.0"
