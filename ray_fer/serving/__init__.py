"""The live system: stages, Ray Serve deployments, dashboard, demo. `stages`, `inference`, `predict` need no Ray."""
