"""What this computer gives: clocks, random numbers, disk, private files, its service manager, the commit that runs."""
