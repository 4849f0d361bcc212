"""Data: on-device generators, readers of real data sets, augmentation."""
