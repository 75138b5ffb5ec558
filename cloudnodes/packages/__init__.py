"""Offline install packages: docker images and their settings in one verified, reproducible ZIP. Free of Django."""
