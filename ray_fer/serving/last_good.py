"""The last list of models that could be served, kept by the cluster's head beside Serve's own state.

Serve hands a list of models to every replica that starts, also one that the running replicas have refused. Without
this, a replica that starts after a refusal would have no list at all.
"""

from __future__ import annotations

from ray.experimental import internal_kv  # where Serve keeps its own; there is no public one

from ray_fer.serving.catalogue import ModelsConfig

_NAMESPACE = "ray_fer"


def remember(app: str, models: ModelsConfig) -> None:
    """Keep the list of an application."""
    internal_kv._internal_kv_put(_key(app), models.model_dump_json().encode(), overwrite=True, namespace=_NAMESPACE)


def remembered(app: str) -> ModelsConfig | None:
    """The list of an application; None if there never was one."""
    found = internal_kv._internal_kv_get(_key(app), namespace=_NAMESPACE)
    return None if found is None else ModelsConfig.model_validate_json(found)


def _key(app: str) -> bytes:
    return f"models of {app}".encode()
