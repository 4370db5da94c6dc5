//! The store on a local filesystem.
