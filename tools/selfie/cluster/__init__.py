"""The same stages on many machines: work cut into shards, done by Dask's workers, and put together in order."""
