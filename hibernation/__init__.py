"""Hibernation: decides when every sleepable is awake, and orders its sleep and wake."""
