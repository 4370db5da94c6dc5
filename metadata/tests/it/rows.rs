//! Namespaces, containers, images, leases and sandboxes.

mod containers;
mod images;
mod leases;
mod namespaces;
mod sandboxes;
