//! Everything that is done to a layer, on any bytes: decompressed, read, and unpacked both ways beside a file that must
//! not change.

#![no_main]

use std::{fs, io::Read};

use corten_diff::{
    archive::{ArchiveError, Reader},
    decompressor,
    unpack::{UnpackOptions, Whiteouts, unpack},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut plain = Vec::new();
    if let Ok(reader) = decompressor(data) {
        let _ = reader.take(1 << 20).read_to_end(&mut plain);
    }
    let mut archive = Reader::new(&plain[..]);
    while let Ok(Some(_)) = archive.next_entry() {
        let _ = archive.read_contents(|_| Ok::<(), ArchiveError>(()));
    }
    let folder = tempfile::tempdir_in("/dev/shm").expect("there is room");
    let [root, outside, kept] = ["root", "outside", "outside/file"].map(|name| folder.path().join(name));
    fs::create_dir(&root).and_then(|()| fs::create_dir(&outside)).expect("there is room");
    fs::write(&kept, "kept").expect("there is room");
    for whiteouts in [Whiteouts::Remove, Whiteouts::Overlay { user_xattrs: false }] {
        let options = UnpackOptions {
            whiteouts,
            max_bytes: 1 << 30,
            lower_layers: vec![outside.clone()],
            ..UnpackOptions::default()
        };
        let _ = unpack(&plain[..], &root, &options);
    }
    assert_eq!(fs::read(&kept).expect("it is still there"), b"kept");
    assert_eq!(fs::read_dir(&outside).expect("it is still there").count(), 1);
});
