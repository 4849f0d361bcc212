"""Optical-flow networks, one file each."""
