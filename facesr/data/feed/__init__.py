"""From a dataset to batches on the device: order, augmentation, degradation, prefetching."""
