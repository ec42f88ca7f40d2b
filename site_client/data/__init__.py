"""Readers, checks, preprocessing and mock sites: from files to arrays a network can learn from."""
