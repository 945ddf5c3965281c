"""Simulated exchanges: real WebSocket and REST servers that play recordings or a made-up market."""
