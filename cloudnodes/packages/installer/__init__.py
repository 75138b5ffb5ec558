"""The parts of `install.py`. `cloudnodes.packages.bundle` joins them into the one file that travels in each package.

They use the standard library alone and run on Python 3.8, so no syntax or function newer than that.
"""
