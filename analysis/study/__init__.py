"""Reads a study's published records: is the comparison fair, what do its numbers say, and how certain is that?"""
