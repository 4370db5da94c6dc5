//! Layers over the wire: what the daemon's configuration says of them. Only Corten is asked.

use corten_content_store::{CommitOptions, IngestOptions, Ingester};
use corten_diff::{
    Applier, ApplyOptions,
    archive::{EntryKind, Header, Writer},
};
use corten_proxy::{Connection, ContentProxy, DiffProxy, Scope};
use corten_tests::{Daemon, DaemonOptions, Kind, root_or_skip};
use corten_types::{Descriptor, ErrorKind, Mount};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An archive of one file whose bytes are all different from what they should be.
fn locked_layer() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let header = Header { size_bytes: 6, ..Header::new(EntryKind::File, "greeting") };
    writer.write_header(&header).unwrap();
    writer.write_contents(b"hello\n").unwrap();
    let plain = writer.finish().unwrap();
    plain
        .iter()
        .map(|byte| if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { *byte })
        .collect()
}

/// Rows A01, A04 and DM40.
#[test]
fn a_configured_stream_processor_unlocks_layers() {
    if root_or_skip() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(unlock());
    }
}

async fn unlock() {
    let configuration = format!(
        "[stream_processors.unlock]\naccepts = ['application/locked']\nreturns = '{LAYER}'\npath = '/bin/sh'\n\
         args = ['-c', 'test \"$STREAM_PROCESSOR_MEDIATYPE\" = application/locked && exec tr A-Z a-z']\n"
    );
    let options = DaemonOptions { kind: Kind::Corten, configuration, ..DaemonOptions::default() };
    let daemon = Daemon::start_with(options).unwrap();
    let connection = Connection::unix(&daemon.address());
    let scope = Scope::new(&daemon.namespace().parse().unwrap());
    let content = ContentProxy::new(&connection, scope.clone());
    let differ = DiffProxy::new(&connection, scope);

    let bytes = locked_layer();
    let mut ingest = content.ingest("layer", IngestOptions::default()).await.unwrap();
    ingest.write(bytes.clone().into()).await.unwrap();
    let labels = [("containerd.io/gc.root".to_owned(), "layer".to_owned())].into();
    let blob = ingest.commit(CommitOptions { labels, ..CommitOptions::default() }).await.unwrap();
    let folder = daemon.path("target");
    std::fs::create_dir(&folder).unwrap();
    let mount = Mount {
        kind: "bind".into(),
        source: folder.to_str().unwrap().into(),
        target: String::new(),
        options: vec!["rw".into(), "rbind".into()],
    };
    let apply = |media_type: &str| {
        let layer = Descriptor::new(media_type, blob.digest.clone(), bytes.len() as u64);
        let (differ, content, mount) = (&differ, &content, mount.clone());
        async move { differ.apply(content, &layer, &[mount], ApplyOptions::default()).await }
    };
    let applied = apply("application/locked").await.unwrap();
    assert_eq!((applied.media_type.as_str(), applied.size_bytes), (LAYER, bytes.len() as u64));
    assert_eq!(std::fs::read(folder.join("greeting")).unwrap(), b"hello\n");

    // Nobody knows this type; and of this one the decoder is known, but not installed (row A05).
    let error = apply("application/unknown").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented, "{error}");
    let error = apply(&format!("{LAYER}+encrypted")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    assert!(error.chain().contains("ctd-decoder"), "{}", error.chain());
    daemon.finish().unwrap();
}
