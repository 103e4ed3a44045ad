"""Feature extractors that the published systems are built on. Torch only."""
