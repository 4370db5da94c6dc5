//! Layers from a content store into mounts.

use std::{fs, io::Write as _, os::unix::fs::FileTypeExt, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use corten_content_store::{Blob, BlobInfo, BlobReader};
use corten_diff::{Applier, ApplyOptions, DifferOptions, StreamProcessor, WalkingDiffer};
use corten_filter::Filters;
use corten_types::{Any, Descriptor, Digest, Error, ErrorKind, Mount, Result};

use crate::{
    layer::Layer,
    root_or_skip,
    store::{Store, digest_of},
    tree::names,
};

const OCI: &str = "application/vnd.oci.image.layer.v1.tar";
const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const OCI_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn bind(path: &Path) -> Vec<Mount> {
    vec![Mount {
        kind: "bind".into(),
        source: path.to_str().unwrap().into(),
        target: String::new(),
        options: vec!["rw".into(), "rbind".into()],
    }]
}

fn layer() -> Vec<u8> {
    Layer::new().directory("d/").file("d/f", &[7; 100_000]).symlink("l", "d/f").build()
}

struct Scene {
    folder: tempfile::TempDir,
    store: Store,
    differ: WalkingDiffer,
}

impl Scene {
    fn new() -> Self {
        Self::with(DifferOptions::default())
    }

    fn with(options: DifferOptions) -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        let differ = WalkingDiffer::new(folder.path().join("mounts"), options);
        Self { folder, store: Store::default(), differ }
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("root")
    }

    async fn apply(&self, media_type: &str, data: &[u8]) -> Result<Descriptor> {
        let descriptor = self.store.add(media_type, data);
        self.differ.apply(&self.store, &descriptor, &bind(&self.root()), ApplyOptions::default()).await
    }
}

#[tokio::test]
async fn every_encoding_gives_the_same_tree_and_diff_id() {
    root_or_skip!();
    let plain = layer();
    let cases = [
        (OCI, plain.clone()),
        (OCI_GZIP, gzip(&plain)),
        (OCI_GZIP, zstd::encode_all(&plain[..], 1).unwrap()),
        (OCI_ZSTD, zstd::encode_all(&plain[..], 1).unwrap()),
        (DOCKER, gzip(&plain)),
        (DOCKER, plain.clone()),
        (DOCKER_GZIP, plain.clone()),
    ];
    for (media_type, data) in cases {
        for with_files in [false, true] {
            let mut scene = Scene::new();
            scene.store.with_files = with_files;
            let result = scene.apply(media_type, &data).await.unwrap();
            assert_eq!(result, Descriptor::new(OCI, digest_of(&plain), plain.len() as u64), "{media_type}");
            assert_eq!(names(&scene.root()), ["d", "d/f", "l"]);
        }
    }
}

#[tokio::test]
async fn a_plain_oci_layer_is_not_sniffed() {
    let error = Scene::new().apply(OCI, &gzip(&layer())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn the_diff_id_covers_bytes_after_the_archives_end() {
    root_or_skip!();
    let mut plain = layer();
    plain.resize(plain.len() + 3_000_001, 0);
    plain.push(9);
    for (media_type, data) in [(OCI, plain.clone()), (OCI_GZIP, gzip(&plain))] {
        let result = Scene::new().apply(media_type, &data).await.unwrap();
        assert_eq!((result.digest, result.size_bytes), (digest_of(&plain), plain.len() as u64));
    }
}

#[tokio::test]
async fn an_empty_blob_is_an_empty_layer() {
    let result = Scene::new().apply(OCI_GZIP, b"").await.unwrap();
    assert_eq!((result.digest, result.size_bytes), (digest_of(b""), 0));
}

#[tokio::test]
async fn a_damaged_layer_is_data_loss_and_named() {
    root_or_skip!();
    let whole = gzip(&layer());
    let cut = &whole[..whole.len() - 4];
    let error = Scene::new().apply(OCI_GZIP, cut).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    let chain = error.chain();
    assert!(chain.contains(digest_of(cut).as_str()) && chain.contains("fetch the layer again"), "{chain}");
}

#[tokio::test]
async fn unknown_media_types_are_left_to_other_differs() {
    for media_type in ["application/json", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", ""] {
        let error = Scene::new().apply(media_type, &layer()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unimplemented);
        assert!(error.chain().contains("no processor for media-type"));
    }
}

#[tokio::test]
async fn a_blob_that_does_not_exist_is_not_found() {
    let scene = Scene::new();
    let descriptor = Descriptor::new(OCI, digest_of(b"nothing"), 3);
    let mounts = bind(&scene.root());
    let applied = scene.differ.apply(&scene.store, &descriptor, &mounts, ApplyOptions::default());
    assert_eq!(applied.await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn no_more_than_the_descriptors_size_is_read() {
    root_or_skip!();
    let scene = Scene::new();
    let plain = layer();
    let blob = [&plain[..], b"more"].concat();
    let mut descriptor = scene.store.add(OCI, &blob);
    descriptor.size_bytes = plain.len() as u64;
    let apply = |descriptor: Descriptor| {
        let scene = &scene;
        async move {
            scene.differ.apply(&scene.store, &descriptor, &bind(&scene.root()), ApplyOptions::default()).await
        }
    };
    assert_eq!(apply(descriptor.clone()).await.unwrap().digest, digest_of(&plain));
    descriptor.size_bytes = 0;
    assert_eq!(apply(descriptor.clone()).await.unwrap().digest, digest_of(&blob));
    descriptor.size_bytes = blob.len() as u64 + 1;
    assert_eq!(apply(descriptor).await.unwrap_err().kind(), ErrorKind::DataLoss);
}

#[tokio::test]
async fn an_overlay_is_unpacked_into_without_mounting_it() {
    root_or_skip!();
    let scene = Scene::new();
    let upper = scene.root();
    let mount = Mount {
        kind: "overlay".into(),
        source: "overlay".into(),
        target: String::new(),
        // Folders that do not exist: a mount would fail.
        options: vec!["workdir=/nowhere/work".into(), format!("upperdir={}", upper.display())],
    };
    let descriptor = scene.store.add(OCI, &Layer::new().file("d/.wh.x", b"").build());
    let options = ApplyOptions { sync_fs: true, ..ApplyOptions::default() };
    scene.differ.apply(&scene.store, &descriptor, &[mount], options).await.unwrap();
    assert!(fs::symlink_metadata(upper.join("d/x")).unwrap().file_type().is_char_device());
    assert!(!scene.folder.path().join("mounts").exists());
}

#[tokio::test]
async fn other_mounts_are_mounted_and_unmounted_again() {
    root_or_skip!();
    let scene = Scene::new();
    for name in ["a", "b", "upper", "work"] {
        fs::create_dir(scene.folder.path().join(name)).unwrap();
    }
    let path = |name: &str| scene.folder.path().join(name).display().to_string();
    // Two mounts: the second covers the first.
    let overlay = Mount {
        kind: "overlay".into(),
        source: "overlay".into(),
        target: String::new(),
        options: vec![
            format!("lowerdir={}:{}", path("a"), path("b")),
            format!("upperdir={}", path("upper")),
            format!("workdir={}", path("work")),
        ],
    };
    let mounts = [bind(&scene.root()).remove(0), overlay];
    let descriptor = scene.store.add(OCI, &layer());
    scene.differ.apply(&scene.store, &descriptor, &mounts, ApplyOptions::default()).await.unwrap();
    assert_eq!(names(&scene.folder.path().join("upper")), ["d", "d/f", "l"]);
    assert_eq!(names(&scene.root()), Vec::<String>::new());
    assert_eq!(fs::read_dir(scene.folder.path().join("mounts")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_mount_that_fails_is_an_error() {
    root_or_skip!();
    let scene = Scene::new();
    let descriptor = scene.store.add(OCI, &layer());
    let mounts = [Mount { kind: "no-such-filesystem".into(), ..Mount::default() }];
    let applied = scene.differ.apply(&scene.store, &descriptor, &mounts, ApplyOptions::default());
    assert!(applied.await.unwrap_err().chain().contains("cannot apply the layer"));
}

/// A store whose blobs never give anything.
struct Hanging;

#[async_trait]
impl Blob for Hanging {
    fn size_bytes(&self) -> u64 {
        1 << 20
    }

    async fn read_at(&self, _: u64, _: usize) -> Result<Bytes> {
        std::future::pending().await
    }
}

#[async_trait]
impl BlobReader for Hanging {
    async fn info(&self, _: &Digest) -> Result<BlobInfo> {
        Err(Error::unimplemented("not needed here"))
    }

    async fn open(&self, _: &Digest) -> Result<Arc<dyn Blob>> {
        Ok(Arc::new(Self))
    }

    async fn list(&self, _: &Filters, _: Option<&Digest>, _: usize) -> Result<Vec<BlobInfo>> {
        Err(Error::unimplemented("not needed here"))
    }
}

#[tokio::test]
async fn a_dropped_call_gives_its_place_to_the_next() {
    root_or_skip!();
    let scene = Scene::with(DifferOptions { concurrency: 1, ..DifferOptions::default() });
    let descriptor = Descriptor::new(OCI, digest_of(b""), 1 << 20);
    let mounts = bind(&scene.root());
    let hanging = scene.differ.apply(&Hanging, &descriptor, &mounts, ApplyOptions::default());
    let gone = tokio::time::timeout(std::time::Duration::from_millis(50), hanging).await;
    assert!(gone.is_err());
    let plain = layer();
    let next = scene.apply(OCI, &plain);
    tokio::time::timeout(std::time::Duration::from_secs(60), next).await.unwrap().unwrap();
}

fn shell(id: &str, accepts: &str, returns: &str, script: &str) -> StreamProcessor {
    StreamProcessor {
        id: id.into(),
        accepts: vec![accepts.into()],
        returns: returns.into(),
        path: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec!["SHIFT=yes".into()],
    }
}

#[tokio::test]
async fn processors_are_chained_with_environment_and_payload() {
    root_or_skip!();
    // The first asks for its payload and its environment, the second decompresses.
    let check = r#"test "$SHIFT" = yes && test "$STREAM_PROCESSOR_MEDIATYPE" = application/locked \
        && test "$(od -An -tx1 <&3 | tr -d ' \n')" = 0a016b12021122 && exec cat"#;
    let processors = vec![
        shell("unlock", "application/locked", "application/squeezed", check),
        shell("unsqueeze", "application/squeezed", OCI, "exec gzip -dc"),
    ];
    let scene = Scene::with(DifferOptions { processors, ..DifferOptions::default() });
    let plain = layer();
    let descriptor = scene.store.add("application/locked", &gzip(&plain));
    let payload = Any { type_url: "k".into(), value: Bytes::from_static(b"\x11\x22") };
    let options = ApplyOptions { payloads: [("unlock".into(), payload)].into(), ..ApplyOptions::default() };
    let mounts = bind(&scene.root());
    let result = scene.differ.apply(&scene.store, &descriptor, &mounts, options).await.unwrap();
    assert_eq!(result.digest, digest_of(&plain));
    assert_eq!(names(&scene.root()), ["d", "d/f", "l"]);
}

#[tokio::test]
async fn what_a_processor_returns_may_be_compressed() {
    root_or_skip!();
    let processors = vec![shell("unlock", "application/locked", OCI_GZIP, "exec cat")];
    let scene = Scene::with(DifferOptions { processors, ..DifferOptions::default() });
    let plain = layer();
    assert_eq!(scene.apply("application/locked", &gzip(&plain)).await.unwrap().digest, digest_of(&plain));
}

#[tokio::test]
async fn a_processor_that_fails_is_quoted() {
    for script in [
        "echo no key for you >&2; exit 3",
        "cat; echo no key for you >&2; exit 3",
        "cat >/dev/null; echo no key for you >&2; exit 1",
    ] {
        let processors = vec![shell("unlock", "application/locked", OCI, script)];
        let scene = Scene::with(DifferOptions { processors, ..DifferOptions::default() });
        let error = scene.apply("application/locked", &Layer::new().build()).await.unwrap_err();
        assert!(error.chain().contains("no key for you"), "{script}: {}", error.chain());
    }
}

#[tokio::test]
async fn a_processor_that_does_not_exist_is_an_error() {
    let mut missing = shell("unlock", "application/locked", OCI, "");
    missing.path = "/no/such/program".into();
    let scene = Scene::with(DifferOptions { processors: vec![missing], ..DifferOptions::default() });
    let error = scene.apply("application/locked", &layer()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.chain().contains("/no/such/program"));
}

#[tokio::test]
async fn processors_in_a_circle_are_refused() {
    let processors = vec![
        shell("a", "application/a", "application/b", "cat"),
        shell("b", "application/b", "application/a", "cat"),
    ];
    let scene = Scene::with(DifferOptions { processors, ..DifferOptions::default() });
    let error = scene.apply("application/a", &layer()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_processor_of_a_refused_archive_is_ended() {
    root_or_skip!();
    let processors = vec![shell("endless", "application/locked", OCI, "cat; exec cat /dev/zero")];
    let scene = Scene::with(DifferOptions { processors, ..DifferOptions::default() });
    // The archive is refused while the program still writes.
    let error =
        scene.apply("application/locked", &Layer::new().file(".wh..", b"").build()).await.unwrap_err();
    assert!(error.chain().contains("a whiteout must name"), "{}", error.chain());
}

#[tokio::test]
async fn a_damaged_archive_is_not_blamed_on_the_processor_that_was_ended_for_it() {
    root_or_skip!();
    let processors = vec![shell("unlock", "application/locked", OCI_GZIP, "cat; exec sleep 60 >/dev/null")];
    let scene = Scene::with(DifferOptions { processors, ..DifferOptions::default() });
    let mut damaged = gzip(&layer());
    let middle = damaged.len() / 2;
    damaged[middle..].fill(0x55);
    let error = scene.apply("application/locked", &damaged).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{}", error.chain());
}
