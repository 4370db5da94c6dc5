//! Benchmarks side by side with containerd.
