"""Dashboards for Grafana: `dashboards` says what is on them, the JSON files beside it are what Grafana loads.
`python -m cluster.grafana` writes them anew.
"""
