"""Pairwise coupling: class probabilities from the probabilities of all pairs of classes."""
