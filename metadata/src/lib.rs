//! Namespaces, images, containers, leases and labels over any content store and snapshotter.
