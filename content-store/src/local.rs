//! The store on a local filesystem.

mod blob;
mod following;
mod hashing;
mod ingest;
mod labels;
mod lane;
mod layout;
mod locks;
mod names;
mod record;
mod store;
mod timestamp;

pub use ingest::MAX_KEY_BYTES;
pub use labels::MAX_LABELS_BYTES;
pub use locks::MAX_OPEN_INGESTS;
pub use store::LocalStore;
