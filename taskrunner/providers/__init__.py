"""The outside that tasks need: a bucket for logs."""
