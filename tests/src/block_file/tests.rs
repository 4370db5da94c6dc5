#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::{fs::File, io::Write, sync::Mutex};

use crate::{Ext4, root_or_skip};

use super::*;

/// Memory, and what happened to it.
struct Remembering {
    disk: SlowDisk,
    flushes: Mutex<Vec<usize>>,
    writes: Mutex<Vec<Vec<u8>>>,
}

impl Storage for Remembering {
    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }

    fn read(&self, offset_bytes: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset_bytes, bytes)
    }

    fn write(&self, offset_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        self.writes.lock().unwrap().push(bytes.to_vec());
        self.disk.write(offset_bytes, bytes)
    }

    fn flush(&self) -> io::Result<()> {
        self.flushes.lock().unwrap().push(self.writes.lock().unwrap().len());
        self.disk.flush()
    }
}

#[test]
fn a_loop_device_hands_on_writes_and_flushes_before_a_sync_returns() {
    if !root_or_skip() {
        return;
    }
    let disk = SlowDisk::new(Path::new("/dev/shm"), 64 << 20, Duration::ZERO).unwrap();
    let storage = Arc::new(Remembering { disk, flushes: Mutex::default(), writes: Mutex::default() });
    let block_file = BlockFile::mount(Arc::clone(&storage) as Arc<dyn Storage>).unwrap();
    Ext4::format(&block_file.path(), &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mounted = Ext4::mount(&block_file.path(), folder.path()).unwrap();

    let mut file = File::create(folder.path().join("file")).unwrap();
    file.write_all(b"this sentence must be found on the disk").unwrap();
    let flushes_before = storage.flushes.lock().unwrap().len();
    file.sync_all().unwrap();

    let flushes = storage.flushes.lock().unwrap().clone();
    assert!(flushes.len() > flushes_before, "no flush came");
    let last = *flushes.last().unwrap();
    let writes = storage.writes.lock().unwrap();
    let found =
        writes[..last].iter().any(|bytes| bytes.starts_with(b"this sentence must be found on the disk"));
    assert!(found, "the bytes were not written before the flush");
    drop(writes);
    drop(file);
    mounted.unmount().unwrap();
}

#[test]
fn each_flush_of_a_slow_disk_takes_its_time() {
    if !root_or_skip() {
        return;
    }
    let flush = Duration::from_millis(20);
    let disk = Arc::new(SlowDisk::new(Path::new("/dev/shm"), 64 << 20, flush).unwrap());
    let block_file = BlockFile::mount(Arc::clone(&disk) as Arc<dyn Storage>).unwrap();
    Ext4::format(&block_file.path(), &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mounted = Ext4::mount(&block_file.path(), folder.path()).unwrap();
    let file = File::create(folder.path().join("file")).unwrap();
    let before = disk.flushes();
    let begin = std::time::Instant::now();
    for round in 0..5 {
        file.write_all_at(&[round], 0).unwrap();
        file.sync_all().unwrap();
    }
    assert!(disk.flushes() >= before + 5, "{} flushes", disk.flushes() - before);
    assert!(begin.elapsed() >= 5 * flush, "five syncs took {:?}", begin.elapsed());
    drop(file);
    mounted.unmount().unwrap();
}
