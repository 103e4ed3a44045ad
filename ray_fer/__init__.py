"""ray_fer: distributed dynamic facial expression recognition on Ray Data, Train and Serve."""

__version__ = "0.1.0"
