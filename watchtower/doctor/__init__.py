"""What could keep this tower from watching: one file per group of checks, each finding with the way to mend it.

Promises: nothing of the tower is changed and no lock is taken, so it runs beside a tower or without one; a secret is in
no finding. One file is written for a moment in the data directory, to measure how long the disk takes to keep it.
"""
