//! cortend, the daemon.

fn main() {}
