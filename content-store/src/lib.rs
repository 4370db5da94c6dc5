//! A content-addressed blob store: contract, conformance suite and the store on a local filesystem.

mod contract;

pub use contract::{
    Blob, BlobInfo, BlobReader, BlobWriter, CommitOptions, ContentStore, Ingest, IngestCatalog,
    IngestOptions, IngestStatus, Ingester,
};
