//! Small blobs that become large layers.

use std::{
    io::{self, BufReader, Read, Write as _},
    path::Path,
    process::Command,
};

use corten_diff::{
    Applier, ApplyOptions, DifferOptions, WalkingDiffer,
    archive::{EntryKind, Header, Writer},
    unpack::{UnpackError, UnpackOptions, Whiteouts, unpack},
};
use corten_mount::TemporaryMount;
use corten_types::{Error, ErrorKind, Mount};

use crate::{
    apply::{bind, gzip},
    layer::{Layer, header},
    root_or_skip,
    store::Store,
};

const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const LIMIT: u64 = 4 << 20;

fn bomb(size: usize) -> Vec<u8> {
    Layer::new().file("bomb", &vec![0; size]).build()
}

async fn apply(root: &Path, data: &[u8]) -> Error {
    let store = Store::default();
    let layer = store.add(DOCKER_GZIP, data);
    let options = DifferOptions { max_layer_bytes: LIMIT, ..DifferOptions::default() };
    let differ = WalkingDiffer::new(root.join("mounts"), options);
    differ.apply(&store, &layer, &bind(root), ApplyOptions::default()).await.unwrap_err()
}

#[tokio::test]
async fn what_decompresses_to_more_than_the_limit_is_refused() {
    root_or_skip!();
    let zeros = vec![0; 64 << 20];
    // The first ends inside a file, the others after the archive's end, where nobody but the hash looks.
    let after_the_end = [Layer::new().file("f", b"x").build(), zeros].concat();
    for data in
        [gzip(&bomb(64 << 20)), gzip(&after_the_end), zstd::encode_all(&after_the_end[..], 1).unwrap()]
    {
        let folder = tempfile::tempdir().unwrap();
        let error = apply(folder.path(), &data).await;
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
        let message = format!("{:?}", error);
        assert!(message.contains("4194304"), "{message}");
    }
}

#[tokio::test]
async fn members_without_contents_come_to_an_end() {
    root_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    let empty = gzip(b"");
    let mut data = empty.repeat(200_000);
    data.extend(gzip(&bomb(64 << 20)));
    assert_eq!(apply(folder.path(), &data).await.kind(), ErrorKind::ResourceExhausted);
}

#[test]
fn entries_and_bytes_are_counted_holes_included() {
    let folder = tempfile::tempdir().unwrap();
    let small =
        UnpackOptions { same_owner: false, max_entries: 3, max_bytes: 100, ..UnpackOptions::default() };
    let four = (0..4).fold(Layer::new(), |layer, number| layer.file(format!("f{number}"), b""));
    let error = unpack(&four.build()[..], folder.path(), &small).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { limit: 3, .. }), "{error}");
    let three = (0..3).fold(Layer::new(), |layer, number| layer.file(format!("f{number}"), &[1; 33]));
    unpack(&three.build()[..], folder.path(), &small).unwrap();
    let large = Layer::new().file("f0", &[1; 99]).file("f1", b"23").build();
    let error = unpack(&large[..], folder.path(), &small).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { limit: 100, .. }), "{error}");
    let error = unpack(&holes()[..], folder.path(), &small).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { limit: 100, .. }), "{error}");
    assert_eq!(Error::from(error).kind(), ErrorKind::ResourceExhausted);
}

/// What a directory states as its size is nothing that it has.
#[test]
fn sizes_of_what_has_no_contents_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let small = UnpackOptions { same_owner: false, max_bytes: 100, ..UnpackOptions::default() };
    let mut archive = Vec::new();
    let mut writer = Writer::new(&mut archive);
    writer.write_header(&header(EntryKind::Directory, "d/")).unwrap();
    writer.finish().unwrap();
    archive[124..136].copy_from_slice(b"77777777777\0");
    crate::hostile::fix_checksum(&mut archive[..512]);
    assert_eq!(unpack(&archive[..], folder.path(), &small).unwrap().entries, 1);
}

#[test]
fn a_full_disk_is_resource_exhausted_and_names_the_file() {
    root_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    let small = |count: usize| {
        let files = (0..count).map(|number| format!("small{number}"));
        files.fold(Layer::new(), |layer, name| layer.file(name, &[1; 4096])).build()
    };
    let large = Layer::new().file("large", &vec![1; 1 << 20]).build();
    // One large file, many that other threads fill, and more names than there may be.
    for (options, archive, name) in [
        ("size=256k", large, "/large"),
        ("size=256k", small(100), "/small"),
        ("nr_inodes=20", small(40), "/small"),
    ] {
        let disk = Mount {
            kind: "tmpfs".into(),
            source: "tmpfs".into(),
            target: String::new(),
            options: vec![options.into()],
        };
        let mounted = TemporaryMount::new(&[disk], folder.path()).unwrap();
        let outcome = unpack(&archive[..], mounted.path(), &UnpackOptions::default());
        mounted.close().unwrap();
        let error = Error::from(outcome.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{options}: {}", error.chain());
        assert!(error.to_string().contains(name), "{options}: {error}");
    }
}

/// A file of 4 EiB without data, as GNU tar writes it in PAX format.
fn holes() -> Vec<u8> {
    let record = |text: &str| {
        let mut length = text.len() + 3;
        while format!("{length} {text}\n").len() != length {
            length += 1;
        }
        format!("{length} {text}\n")
    };
    let records = [
        "GNU.sparse.major=0",
        "GNU.sparse.minor=1",
        "GNU.sparse.size=4611686018427387904",
        "GNU.sparse.numblocks=1",
        "GNU.sparse.map=4611686018427387904,0",
    ];
    let records: String = records.iter().map(|text| record(text)).collect();
    let mut archive = Vec::new();
    let mut writer = Writer::new(&mut archive);
    let extension = Header { size_bytes: records.len() as u64, ..header(EntryKind::File, "pax") };
    writer.write_header(&extension).unwrap();
    writer.write_contents(records.as_bytes()).unwrap();
    writer.write_header(&header(EntryKind::File, "holes")).unwrap();
    writer.finish().unwrap();
    archive[156] = b'x';
    crate::hostile::fix_checksum(&mut archive[..512]);
    archive
}

/// An archive that is made while it is read.
struct Generated<F> {
    next: F,
    number: u64,
    block: Vec<u8>,
    position: usize,
}

impl<F: FnMut(u64, &mut Writer<&mut Vec<u8>>) -> bool> Read for Generated<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.position == self.block.len() {
            self.block.clear();
            self.position = 0;
            let mut writer = Writer::new(&mut self.block);
            if !(self.next)(self.number, &mut writer) {
                return Ok(0);
            }
            self.number += 1;
        }
        let count = (&self.block[self.position..]).read(into)?;
        self.position += count;
        Ok(count)
    }
}

const CHILD: &str = "CORTEN_TEST_MEMORY_CHILD";
const ENTRIES: u64 = 100_000;

fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Directories with long names, each with an opaque marker, below one that was there before.
fn many_directories(number: u64, writer: &mut Writer<&mut Vec<u8>>) -> bool {
    let name = format!("old/{number:0>100}");
    let header = match number % 2 {
        0 => header(EntryKind::Directory, format!("{name}/")),
        _ => header(EntryKind::File, format!("old/{:0>100}/.wh..wh..opq", number - 1)),
    };
    writer.write_header(&header).unwrap();
    number < ENTRIES
}

/// Files with as many attributes as fit into an extended header.
fn long_attributes(number: u64, writer: &mut Writer<&mut Vec<u8>>) -> bool {
    let xattrs = (0..15).map(|at| (format!("user.a{at}").into_bytes(), vec![b'v'; 60_000])).collect();
    let header = Header { xattrs, ..header(EntryKind::File, format!("f{}", number % 7)) };
    writer.write_header(&header).unwrap();
    number < 100
}

/// Names as long as they may be.
fn long_names(number: u64, writer: &mut Writer<&mut Vec<u8>>) -> bool {
    let name = format!("{number}/{}f", "n/".repeat(1500));
    writer.write_header(&header(EntryKind::File, name)).unwrap();
    number < 8
}

#[test]
fn memory_stays_bounded_whatever_the_archive_says() {
    root_or_skip!();
    if let Ok(kind) = std::env::var(CHILD) {
        return unpack_in_child(&kind);
    }
    for kind in ["directories", "upper", "attributes", "names"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "bombs::memory_stays_bounded_whatever_the_archive_says", "--nocapture"])
            .env(CHILD, kind)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{kind}: {text}");
        let grown = text.lines().find_map(|line| line.split_once("grown by ")).unwrap().1;
        let grown: u64 = grown.split_whitespace().next().unwrap().parse().unwrap();
        assert!(grown < 32 << 20, "{kind}: {grown}");
    }
}

fn unpack_in_child(kind: &str) {
    let memory = Path::new("/dev/shm");
    let folder = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
    std::fs::create_dir(folder.path().join("old")).unwrap();
    let next = match kind {
        "directories" | "upper" => many_directories,
        "attributes" => long_attributes,
        _ => long_names,
    };
    let whiteouts = match kind {
        "upper" => Whiteouts::Overlay { user_xattrs: false },
        _ => Whiteouts::Remove,
    };
    let options = UnpackOptions { whiteouts, ..UnpackOptions::default() };
    let archive = Generated { next, number: 0, block: Vec::new(), position: 0 };
    let before = peak_bytes();
    match unpack(BufReader::new(archive), folder.path(), &options) {
        Ok(_) => {}
        // Not every filesystem takes that many attributes; refusing them is bounded too.
        Err(error) => assert!(error.to_string().contains("attribute"), "{error}"),
    }
    let mut out = io::stdout();
    writeln!(out, "\ngrown by {} bytes", peak_bytes() - before).unwrap();
}
