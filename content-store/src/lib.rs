//! A content-addressed blob store: contract, conformance suite and the store on a local filesystem.
