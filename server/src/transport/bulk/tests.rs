use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{AfterBulk, BULK_BYTES, BULK_TIME, Bulk};

fn counted() -> (AfterBulk, Arc<AtomicU32>) {
    let count = Arc::new(AtomicU32::new(0));
    let counter = count.clone();
    let count_one = move || {
        counter.fetch_add(1, Ordering::SeqCst);
    };
    (Arc::new(count_one), count)
}

#[test]
fn a_request_is_large_from_a_number_of_bytes_on() {
    let (after, count) = counted();
    let limit = usize::try_from(BULK_BYTES).unwrap();
    let of = |parts: [usize; 2]| {
        let bulk = began(&after, Instant::now() + BULK_TIME * 100);
        parts.into_iter().for_each(|part| bulk.moved(part));
    };
    of([limit - 2, 1]);
    assert_eq!(count.load(Ordering::SeqCst), 0);
    of([limit - 1, 1]);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn a_long_request_is_large_and_ends_with_its_last_body() {
    let (after, count) = counted();
    let Some(began_at) = Instant::now().checked_sub(BULK_TIME) else { return };
    let request = Arc::new(began(&after, began_at));
    let answer = request.clone();
    drop(request);
    assert_eq!(count.load(Ordering::SeqCst), 0);
    drop(answer);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

fn began(after: &AfterBulk, began_at: Instant) -> Bulk {
    Bulk { moved_bytes: AtomicU64::new(0), began_at, after: after.clone() }
}
