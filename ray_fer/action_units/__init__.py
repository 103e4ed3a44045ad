"""Action Units: extractors, clip statistics and culture profiles. Imports neither Ray nor torch."""
