"""One base, many tasks: adapters exchanged in place on a base that is held once, and batches that mix them."""
