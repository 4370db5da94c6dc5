use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use corten_types::{Algorithm, ErrorKind};

use super::{DigestLocks, KeyLocks, MAX_OPEN_INGESTS};
use crate::Hasher;

#[test]
fn a_held_key_is_refused_until_it_is_dropped() {
    let locks = Arc::new(KeyLocks::default());
    let guard = locks.take("a").unwrap();
    let refusal = locks.take("a").unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Unavailable);
    assert!(refusal.message().starts_with("ref a locked for "), "{refusal}");
    assert!(locks.take("b").is_ok());
    drop(guard);
    assert!(locks.take("a").is_ok());
}

#[test]
fn the_last_key_is_given_and_one_more_refused() {
    let locks = Arc::new(KeyLocks::default());
    let guards: Vec<_> =
        (0..MAX_OPEN_INGESTS).map(|number| locks.take(&number.to_string()).unwrap()).collect();
    assert_eq!(locks.take("more").unwrap_err().kind(), ErrorKind::ResourceExhausted);
    drop(guards);
    assert!(locks.take("more").is_ok());
}

#[test]
fn a_digest_is_held_by_one_at_a_time_and_forgotten_afterwards() {
    let locks = DigestLocks::default();
    let digest = Hasher::digest_of(Algorithm::Sha256, b"");
    let inside = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    locks.hold(&digest, || {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            });
        }
    });
    assert_eq!(locks.count(), 0);
}
