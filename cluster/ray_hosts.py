"""Run on the head by `ray up` when machines of one's own were added to the cluster file or taken from it: Ray's
autoscaler reads who there is only when it starts, but what became of each again and again from a file.

    python -m cluster.ray_hosts
"""

from pathlib import Path

import yaml
from ray.autoscaler._private.local.node_provider import LocalNodeProvider

#: Where `ray up` puts the cluster file on the head.
CONFIGURATION = Path("~/ray_bootstrap_config.yaml")


def main() -> None:
    """Write hosts nobody knew to that file, as ones to be started, and take out those that are named no more."""
    config = yaml.safe_load(CONFIGURATION.expanduser().read_text(encoding="utf-8"))
    LocalNodeProvider(config["provider"], config["cluster_name"])


if __name__ == "__main__":
    main()
