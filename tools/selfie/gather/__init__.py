"""Posts with their pictures from open networks, and the guarded fetcher for addresses that strangers give."""
