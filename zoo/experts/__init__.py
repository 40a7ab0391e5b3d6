"""Frozen networks that judge or guide."""
