"""Metrics: what there is to count and measure, how processes do it, and how it becomes one text for Prometheus. Pure
but for `meters`, which belongs to its process.
"""
