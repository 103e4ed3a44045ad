"""Ray Data pipelines that put `video/` and `action_units/` over shards."""
