"""Give back what training runs held whose process was killed.

Ray Train reserves its workers' CPUs and GPUs in a placement group, which outlives a controller that is killed (by Ray
Tune, or for want of memory) until the whole job ends. Ray Train's own cleaner asks the dashboard, which a local Ray
of ours does not have: the next run would wait for ever.
"""

from __future__ import annotations

import ray
from ray._private.state import state
from ray._raylet import ActorID, PlacementGroupID
from ray.core.generated.gcs_pb2 import PlacementGroupTableData
from ray.util.placement_group import PlacementGroup, remove_placement_group


def free_orphans() -> int:
    """Remove placement groups of this job that a dead actor made; returns how many."""
    job = ray.get_runtime_context().get_job_id()
    freed = 0
    for data in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(data)
        by_an_actor = not ActorID(group.creator_actor_id).is_nil()  # else "dead", too: the driver made it
        dead = by_an_actor and group.creator_actor_dead and not group.is_detached
        if dead and group.state != PlacementGroupTableData.REMOVED and group.creator_job_id.hex() == job:
            remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))
            freed += 1
    return freed
