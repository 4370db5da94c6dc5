//! Drives an OCI runtime binary: runc, crun, youki.
