use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use proptest::prelude::*;

use super::{block, pax, *};

/// A block that ends like a header of POSIX tar, with a right checksum.
fn header(name: &[u8], flag: u8, size: u64) -> [u8; 512] {
    let mut block = [0_u8; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

fn with_pax(records: &[(&str, &[u8])], header: &[u8]) -> Vec<u8> {
    let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    [&self::header(b"pax", b'x', data.len() as u64)[..], &padded(&data), header].concat()
}

/// Every entry with its contents; holes are zeros.
fn read(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, ArchiveError> {
    let mut reader = Reader::new(archive);
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut contents = Vec::new();
        reader.read_contents::<ArchiveError>(|piece| {
            match piece {
                Piece::Data(data) => contents.extend_from_slice(data),
                Piece::Hole(length) => contents.resize(contents.len() + usize::try_from(length).unwrap(), 0),
            }
            Ok(())
        })?;
        found.push((entry, contents));
    }
    Ok(found)
}

fn one(archive: &[u8]) -> (Entry, Vec<u8>) {
    let mut entries = read(archive).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn reason(archive: &[u8]) -> String {
    read(archive).unwrap_err().to_string()
}

#[test]
fn numbers_are_octal_or_base_256_with_a_sign() {
    assert_eq!(block::numeric(b"0000644\0"), Some(0o644));
    assert_eq!(block::numeric(b"   644 \0"), Some(0o644));
    assert_eq!(block::numeric(b"\0\0\0\0\0\0\0\0"), Some(0));
    assert_eq!(block::numeric(b"12x\0\0\0\0\0"), None);
    assert_eq!(block::numeric(b"\x80\0\0\0\0\0\x01\x00"), Some(256));
    assert_eq!(block::numeric(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
    // Go's zero time, the first of January of year 1.
    assert_eq!(block::numeric(b"\xff\xff\xff\xff\xff\xff\xff\xf1\x88\x6e\x09\x00"), Some(-62_135_596_800));
    assert_eq!(block::numeric(b"\x80\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
}

#[test]
fn pax_times_have_signs_and_fractions() {
    let time = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
    assert_eq!(pax::time(b"1350244992.023960108"), time(1_350_244_992, 23_960_108));
    assert_eq!(pax::time(b"1.5"), time(1, 500_000_000));
    assert_eq!(pax::time(b"1."), time(1, 0));
    assert_eq!(pax::time(b"-1.5"), time(-2, 500_000_000));
    assert_eq!(pax::time(b"-1"), time(-1, 0));
    assert_eq!(pax::time(b"1.0000000009"), time(1, 0));
    for broken in ["", "x", "1.x", "1.-5", "."] {
        assert_eq!(pax::time(broken.as_bytes()), None, "{broken}");
    }
}

#[test]
fn times_outside_what_disks_keep_become_1970() {
    let time = |seconds, nanoseconds| Time { seconds, nanoseconds };
    assert_eq!(time(-1, 999_999_999).bounded(), Time::default());
    assert_eq!(time(9_223_372_036, 854_775_807).bounded(), time(9_223_372_036, 854_775_807));
    assert_eq!(time(9_223_372_036, 854_775_808).bounded(), Time::default());
    assert_eq!(time(i64::MAX, 0).bounded(), Time::default());
}

#[test]
fn extended_headers_override_the_header() {
    let archive = with_pax(
        &[
            ("path", b"a/long/name"),
            ("uid", b"3000000000"),
            ("gid", b"-5"),
            ("mtime", b"-3.25"),
            ("atime", b"7.5"),
            ("size", b"3"),
            ("SCHILY.xattr.user.binary", b"a\0\n=\xff"),
            ("SCHILY.xattr.user.empty", b""),
            ("linkpath", b""),
            ("comment", b"ignored"),
        ],
        &[&header(b"short", b'0', 0)[..], &padded(b"abc")].concat(),
    );
    let (entry, contents) = one(&archive);
    assert_eq!(entry.path, b"a/long/name");
    assert_eq!((entry.uid, entry.gid, entry.size_bytes), (3_000_000_000, -5, 3));
    assert_eq!(entry.modified, Time { seconds: -4, nanoseconds: 750_000_000 });
    assert_eq!(entry.accessed, Some(Time { seconds: 7, nanoseconds: 500_000_000 }));
    let xattrs = [(b"user.binary".to_vec(), b"a\0\n=\xff".to_vec()), (b"user.empty".to_vec(), Vec::new())];
    assert_eq!(entry.xattrs, xattrs);
    assert_eq!(contents, b"abc");
}

#[test]
fn a_global_header_changes_nothing() {
    let global = record("path", b"everything");
    let archive = [
        &header(b"pax_global_header", b'g', global.len() as u64)[..],
        &padded(&global),
        &header(b"file", b'0', 0),
    ]
    .concat();
    assert_eq!(one(&archive).0.path, b"file");
}

#[test]
fn links_and_directories_have_no_data_whatever_their_size_says() {
    let archive =
        [&header(b"link", b'1', 5)[..], &header(b"dir", b'5', 1 << 30), &header(b"file", b'0', 0)].concat();
    assert_eq!(read(&archive).unwrap().len(), 3);
}

#[test]
fn the_oldest_files_whose_name_ends_with_a_slash_are_directories() {
    assert_eq!(one(&header(b"dir/", 0, 0)).0.kind, EntryKind::Directory);
    assert_eq!(one(&header(b"file", 0, 0)).0.kind, EntryKind::File);
    assert_eq!(one(&header(b"what", b'7', 0)).0.kind, EntryKind::Other(b'7'));
}

#[test]
fn an_archive_ends_with_two_empty_blocks_or_with_its_stream() {
    let file = header(b"file", b'0', 0);
    assert_eq!(read(b"").unwrap().len(), 0);
    assert_eq!(read(&file).unwrap().len(), 1);
    assert_eq!(read(&[&file[..], &[0; 512]].concat()).unwrap().len(), 1);
    assert_eq!(read(&[&file[..], &[0; 1024], b"rubbish"].concat()).unwrap().len(), 1);
    assert!(reason(&[&file[..], &[0; 512], &file].concat()).contains("lone empty block"));
}

#[test]
fn what_is_cut_short_is_an_error() {
    let archive = [&header(b"file", b'0', 600)[..], &padded(&[7; 600])].concat();
    assert!(reason(&archive[..100]).contains("in the middle of a header"));
    assert!(reason(&archive[..1000]).contains("in the middle of a file's contents"));
    // The padding of the last file may be missing.
    assert_eq!(one(&archive[..512 + 600]).1.len(), 600);
}

#[test]
fn broken_headers_are_errors() {
    let mut wrong_sum = header(b"file", b'0', 0);
    wrong_sum[0] = b'g';
    assert!(reason(&wrong_sum).contains("checksum"));
    let mut negative = header(b"file", b'0', 0);
    negative[124..136].fill(0xff);
    seal(&mut negative);
    assert!(reason(&negative).contains("size"));
    for records in ["9 a=b\n", "6 a=b", "x a=b\n", "4 =b\n", "99999999999999999999 a=b\n"] {
        let archive = [&header(b"pax", b'x', records.len() as u64)[..], &padded(records.as_bytes())].concat();
        assert!(reason(&archive).contains("PAX record"), "{records}");
    }
    assert!(reason(&with_pax(&[("path", b"a\0b")], b"")).contains("PAX record"));
    assert!(reason(&with_pax(&[("mtime", b"soon")], b"")).contains("time"));
    assert!(reason(&with_pax(&[("uid", b"root")], b"")).contains("number"));
    let negative = with_pax(&[("size", b"-1")], &header(b"file", b'0', 0));
    assert!(reason(&negative).contains("negative"));
}

#[test]
fn checksums_of_signed_bytes_are_accepted() {
    let mut block = header(b"caf\xc3\xa9", b'0', 0);
    block[148..156].fill(b' ');
    let sum: i32 = block.iter().map(|byte| i32::from(byte.cast_signed())).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(one(&block).0.path, b"caf\xc3\xa9");
}

#[test]
fn an_extended_header_of_a_gigabyte_is_refused_before_it_is_read() {
    for flag in [b'x', b'g', b'L', b'K'] {
        let mut reader =
            Reader::new(std::io::BufReader::new(std::io::Cursor::new(header(b"bomb", flag, 1 << 30))));
        let error = reader.next_entry().unwrap_err().to_string();
        assert!(error.contains("more than 1 MiB"), "{error}");
    }
}

#[test]
fn sparse_maps_that_lie_are_errors() {
    let data = padded(&[7; 512]);
    let file = [&header(b"file", b'0', 512)[..], &data].concat();
    for map in ["0,512,100,0", "5,100", "0,513", "0", "-1,512", "9223372036854775807,512", "0,256", "a,b"] {
        let records: [(&str, &[u8]); 2] = [("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", b"512")];
        assert!(reason(&with_pax(&records, &file)).contains("sparse"), "{map}");
    }
    let records: [(&str, &[u8]); 3] =
        [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"512")];
    for map in ["99999999999\n", "1\n0\n", "", "-1\n", "x\n"] {
        let contents = padded(&[map.as_bytes(), &[b'1'; 600]].concat());
        let file = [&header(b"file", b'0', contents.len() as u64)[..], &contents].concat();
        assert!(reason(&with_pax(&records, &file)).contains("sparse"), "{map}");
    }
    let endless = vec![b'1'; 4 << 20];
    let file = [&header(b"file", b'0', endless.len() as u64)[..], &endless].concat();
    assert!(reason(&with_pax(&records, &file)).contains("sparse"));
}

fn gnu_tar(folder: &std::path::Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").current_dir(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn every_version_of_gnu_tars_sparse_files_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    let mut file = fs::File::create(&path).unwrap();
    // More parts than fit into one header, so that GNU's format needs more blocks.
    for part in 0..40_u64 {
        use std::os::unix::fs::FileExt as _;
        file.write_at(&[part as u8 + 1; 3000], part * 65_536).unwrap();
    }
    file.set_len(40 * 65_536 + 12_345).unwrap();
    file.flush().unwrap();
    let expected = fs::read(&path).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let archive = gnu_tar(folder.path(), &[format, &["--sparse", "-cf", "-", "sparse"]].concat());
        assert!(archive.len() < expected.len() / 2, "{format:?} is not sparse");
        let (entry, contents) = one(&archive);
        assert_eq!((entry.path.as_slice(), entry.kind), (&b"sparse"[..], EntryKind::File), "{format:?}");
        assert_eq!(entry.size_bytes, expected.len() as u64, "{format:?}");
        assert!(contents == expected, "{format:?}");
    }
}

#[test]
fn gnu_tars_long_names_and_negative_times_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let target = "t".repeat(200);
    fs::create_dir(folder.path().join("d".repeat(120))).unwrap();
    std::os::unix::fs::symlink(&target, folder.path().join(&name)).unwrap();
    for format in ["--format=gnu", "--format=pax"] {
        let archive =
            gnu_tar(folder.path(), &[format, "--mtime=@-1000000", "--owner=3000000", "-cf", "-", &name]);
        let (entry, _) = one(&archive);
        assert_eq!(entry.path, name.as_bytes(), "{format}");
        assert_eq!(entry.link, target.as_bytes(), "{format}");
        assert_eq!((entry.modified, entry.uid), (Time::from_seconds(-1_000_000), 3_000_000), "{format}");
    }
}

fn written(headers: &[(Header, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, contents) in headers {
        writer.write_header(header).unwrap();
        writer.write_contents(contents).unwrap();
    }
    writer.finish().unwrap()
}

fn file_header(path: &[u8]) -> Header {
    Header::new(EntryKind::File, path)
}

#[test]
fn a_simple_header_is_written_as_everybody_writes_it() {
    let archive =
        written(&[(Header { size_bytes: 5, modified_seconds: 1, ..file_header(b"a/b") }, b"hello")]);
    assert_eq!(archive.len(), 512 + 512 + 1024);
    assert_eq!(&archive[..4], b"a/b\0");
    assert_eq!(
        &archive[100..156],
        b"0000644\x000000000\x000000000\x0000000000005\x0000000000001\x00007565\0 "
    );
    assert_eq!(&archive[156..158], b"0\0");
    assert_eq!(&archive[257..265], b"ustar\x0000");
    assert_eq!(&archive[329..345], b"0000000\x000000000\0");
}

#[test]
fn what_does_not_fit_into_a_header_gets_a_record() {
    let long = [&b"x".repeat(99)[..], b"/\xc3\xa9y"].concat();
    let header = Header {
        uid: 1 << 21,
        modified_seconds: -1,
        size_bytes: 0,
        xattrs: vec![(b"security.capability".to_vec(), b"\0\x01=\n".to_vec())],
        ..file_header(&long)
    };
    let archive = written(&[(header, b"")]);
    // In the header itself the name is cut to what fits, and is no directory's.
    assert!(archive[1024..].starts_with(&[&b"x".repeat(99)[..], b"\0"].concat()));
    let (entry, _) = one(&archive);
    assert_eq!((entry.path, entry.uid, entry.modified), (long, 1 << 21, Time::from_seconds(-1)));
    assert_eq!(entry.xattrs, [(b"security.capability".to_vec(), b"\0\x01=\n".to_vec())]);
}

#[test]
fn the_length_of_a_record_counts_itself() {
    for length in 80..120 {
        let name = vec![b'n'; 100 + length];
        assert_eq!(one(&written(&[(file_header(&name), b"")])).0.path, name);
    }
}

#[test]
fn a_long_name_is_split_where_posix_allows_and_nothing_else_needs_a_record() {
    let path = [&b"d".repeat(120)[..], b"/", &b"f".repeat(90)].concat();
    let archive = written(&[(file_header(&path), b"")]);
    assert_eq!(archive.len(), 512 + 1024);
    assert_eq!(one(&archive).0.path, path);
    let archive = written(&[(Header { uid: u32::MAX, ..file_header(&path) }, b"")]);
    assert_eq!(archive.len(), 3 * 512 + 1024);
    assert_eq!(one(&archive).0.path, path);
}

#[test]
fn contents_must_be_as_long_as_the_header_says() {
    let header = Header { size_bytes: 3, ..file_header(b"f") };
    let mut writer = Writer::new(Vec::new());
    writer.write_header(&header).unwrap();
    assert!(writer.write_contents(b"four").is_err());
    assert!(writer.finish().is_err());
}

/// Names as GNU tar lists them.
fn listed_by_tar(archive: &[u8]) -> Vec<u8> {
    let mut child = Command::new("tar")
        .args(["--quoting-style=literal", "-tf", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(archive).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn gnu_tar_reads_what_the_writer_writes() {
    let long = b"n".repeat(300);
    let archive = written(&[
        (Header { kind: EntryKind::Directory, ..file_header(b"dir/") }, b""),
        (Header { size_bytes: 3, ..file_header(&long) }, b"abc"),
        (Header { kind: EntryKind::Symlink, link: long.clone(), ..file_header(b"link") }, b""),
    ]);
    assert_eq!(listed_by_tar(&archive), [b"dir/\n", long.as_slice(), b"\nlink\n"].concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_written_is_read_back(
        path in proptest::collection::vec(1_u8..=255, 1..400),
        link in proptest::collection::vec(1_u8..=255, 0..400),
        contents in proptest::collection::vec(any::<u8>(), 0..2000),
        mode in 0_u32..0o10000,
        uid in any::<u32>(),
        gid in any::<u32>(),
        seconds in any::<i32>(),
        value in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let header = Header {
            mode, uid, gid,
            size_bytes: contents.len() as u64,
            modified_seconds: seconds.into(),
            link: link.clone(),
            xattrs: vec![(b"user.x".to_vec(), value.clone())],
            ..file_header(&path)
        };
        let archive = written(&[(header, &contents)]);
        let (entry, read) = one(&archive);
        prop_assert_eq!(entry.path, path);
        prop_assert_eq!(entry.link, link);
        prop_assert_eq!(read, contents);
        prop_assert_eq!((entry.mode, entry.uid, entry.gid), (mode, i64::from(uid), i64::from(gid)));
        prop_assert_eq!(entry.modified, Time::from_seconds(seconds.into()));
        prop_assert_eq!(entry.xattrs, vec![(b"user.x".to_vec(), value)]);
    }

    #[test]
    fn random_blocks_never_panic(
        mut blocks in proptest::collection::vec(proptest::array::uniform32(any::<u8>()), 1..8),
        flag in proptest::sample::select(b"01234567xgLKS\0".to_vec()),
        gnu in any::<bool>(),
    ) {
        let mut archive = Vec::new();
        for seed in &mut blocks {
            let mut block: Vec<u8> = seed.iter().cycle().take(512).copied().collect();
            // A size that is small, and a checksum that is right: deeper code is reached.
            block[124..136].copy_from_slice(b"00000001000\0");
            block[156] = flag;
            if gnu {
                block[257..265].copy_from_slice(b"ustar  \0");
            }
            let mut block: [u8; 512] = block.try_into().unwrap();
            seal(&mut block);
            archive.extend_from_slice(&block);
            archive.extend_from_slice(&[seed[0]; 512]);
        }
        let _ = read(&archive);
    }
}
