"""Training on Ray Train: recipes, losses, the one loop, and the way from a clip store to a bundle."""
