"""Training: recipes, photographs in memory, one loop."""
