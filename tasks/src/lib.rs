//! The daemon's side of shims: bundles, bootstrap, recovery and clean-up.
