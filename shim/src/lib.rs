//! containerd-shim-runc-v2: the process that looks after containers.
