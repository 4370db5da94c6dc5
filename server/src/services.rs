//! One module for each service.

mod answer;
pub mod containers;
pub mod content;
pub mod diff;
pub mod events;
pub mod fsck;
pub mod health;
pub mod images;
pub mod introspection;
pub mod leases;
pub mod mounts;
pub mod namespaces;
mod pages;
pub mod sandboxes;
pub mod snapshots;
pub mod tasks;
pub mod version;

/// Makes a tonic server of a service, with tonic's own limits out of the way: see `transport::limits`.
macro_rules! serve {
    ($server:ident, $service:expr) => {
        $server::new($service).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX)
    };
}
pub(crate) use serve;
