//! cortend, the daemon.
