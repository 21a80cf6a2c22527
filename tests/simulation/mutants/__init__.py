"""Planted bugs: each breaks the tower in one way that once cost others money, and the simulation has to find it.

The program itself has no switch for them: a bug is a handful of attributes that are replaced while a schedule runs.
"""
