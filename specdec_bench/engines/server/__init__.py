"""Servers of engines, over HTTP: one client, and one module for each kind of server."""
