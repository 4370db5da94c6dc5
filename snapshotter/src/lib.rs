//! The snapshotter contract, its conformance suite and the metastore implementations share.
