"""Requests that fit what containers use: recommended, shown as a report, applied with a way back."""
