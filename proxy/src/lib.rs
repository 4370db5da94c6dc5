//! Content stores, snapshotters and differs in another process, over containerd's gRPC.
