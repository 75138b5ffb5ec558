"""DRF glue: problems for every error, one pagination, the actor on every view."""
