"""Studies, one file each: what it runs, its table, and the files that it writes."""
