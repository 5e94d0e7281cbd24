"""A procedural world of images with exact boxes, written as real data sets are."""
