//! The store on a local filesystem.

mod blob;
mod ingest;
mod layout;
mod locks;
mod record;
mod store;
mod timestamp;

pub use ingest::MAX_KEY_BYTES;
pub use locks::MAX_OPEN_INGESTS;
pub use store::LocalStore;
