from cluster.grafana.dashboards import DASHBOARDS, FOLDER
from cluster.grafana.drawing import rendered

for dashboard in DASHBOARDS:
    (FOLDER / f"{dashboard.name}.json").write_text(rendered(dashboard), encoding="utf-8")
