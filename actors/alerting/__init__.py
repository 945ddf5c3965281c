"""Alerts, the decisions: what an alert may be, when it fires, what it says and when a channel is tried again; pure.
`actors.alert_channels` and `actors.alerter` carry them out. Times are passed in, ns since the epoch, UTC.
"""
