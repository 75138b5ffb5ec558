"""Prices as the clouds publish them: each feed gives rows for the price book, with their source and date."""
