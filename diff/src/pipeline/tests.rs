use std::{
    io::{Cursor, Read},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use corten_types::{Algorithm, Digest, Error, ErrorKind};
use sha2::Digest as _;

use super::*;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

fn hash(data: &[u8]) -> Hashed {
    let digest = Digest::from_hash(Algorithm::Sha256, &sha2::Sha256::digest(data));
    Hashed { digest, size_bytes: data.len() as u64 }
}

#[test]
fn every_byte_is_hashed_whatever_the_consumer_reads() {
    for length in [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFERS * BUFFER_BYTES + 7] {
        let data = bytes(length);
        for wanted in [0, length / 2, length] {
            let source = data.clone();
            let open = move || Ok(Box::new(Cursor::new(source)) as Box<dyn Read + Send>);
            let (read, hashed) = run(
                open,
                u64::MAX,
                &AtomicBool::new(false),
                || (),
                |stream| {
                    let mut read = vec![0; wanted];
                    stream.read_exact(&mut read).unwrap();
                    Ok(read)
                },
            )
            .unwrap();
            assert!(read == data[..wanted]);
            assert_eq!(hashed, hash(&data));
        }
    }
}

#[test]
fn an_error_of_the_source_comes_after_the_bytes_before_it() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other(Error::data_loss("gone")))
        }
    }
    let open = || Ok(Box::new(Cursor::new(bytes(10)).chain(Failing)) as Box<dyn Read + Send>);
    let mut seen = Vec::new();
    let error = run(
        open,
        u64::MAX,
        &AtomicBool::new(false),
        || (),
        |stream| {
            let _ = stream.read_to_end(&mut seen);
            Ok(())
        },
    );
    // Also a consumer that swallows the error gets no hash of half a layer.
    assert!(error.is_err());
    assert_eq!(seen, bytes(10));
    let error = run(open, u64::MAX, &AtomicBool::new(false), || (), |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss);
}

#[test]
fn a_consumer_that_fails_stops_the_source() {
    let stopped = AtomicUsize::new(0);
    let open = || Ok(Box::new(io::repeat(7)) as Box<dyn Read + Send>);
    let stop = || {
        stopped.fetch_add(1, Ordering::Relaxed);
    };
    let error = run(open, u64::MAX, &AtomicBool::new(false), stop, |_| Err::<(), _>(Error::internal("no")))
        .unwrap_err();
    assert_eq!(error.message(), "no");
    assert_eq!(stopped.load(Ordering::Relaxed), 1);
}

#[test]
fn a_cancelled_pipeline_ends() {
    let open = || Ok(Box::new(io::repeat(7)) as Box<dyn Read + Send>);
    let error = run(open, u64::MAX, &AtomicBool::new(true), || (), |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}
