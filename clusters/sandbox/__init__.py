"""Simulated clusters of the sandbox cloud: what their agents would report. Everything of it is labelled Sandbox."""
