"""What the dashboards show: few panels that somebody really looks at, from how all is to where it hurts."""

from pathlib import Path
from typing import Final

from cluster.grafana.data import EXCHANGES, INTEGRITY, OVERVIEW, PIPELINE
from cluster.grafana.services import SERVING, STORAGE

FOLDER: Final = Path(__file__).parent
DASHBOARDS: Final = (OVERVIEW, EXCHANGES, INTEGRITY, PIPELINE, SERVING, STORAGE)
