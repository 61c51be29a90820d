"""One file a stage: what its cache key is made of, its retries, its files, its artifacts; thin."""
