"""All that the post shows: grids, best crops, spatial transformer, t-SNE map, filters, findings, ablations, report."""
