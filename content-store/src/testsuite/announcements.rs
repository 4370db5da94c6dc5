//! Hints of what will be written, which must never show.

use bytes::Bytes;
use corten_types::ErrorKind;

use super::support::{assert_kind, begin, begin_when_free, commit, exists, get, sha256, write};
use crate::{CommitOptions, ContentStore, Ingest, IngestOptions};

/// How large a piece is: several are more than what a store does at once.
const PIECE_BYTES: usize = 100_000;

/// Pieces that all differ.
fn pieces(count: usize, first: u8) -> Vec<Bytes> {
    let fill = |number: usize| (0..PIECE_BYTES).map(move |at| first.wrapping_add((number * 31 + at) as u8));
    (0..count).map(|number| fill(number).collect::<Vec<u8>>().into()).collect()
}

fn announce(ingest: &dyn Ingest, pieces: &[Bytes]) {
    // A store that makes no use of hints passes as well.
    if let Some(announcer) = ingest.announcer() {
        pieces.iter().for_each(|piece| announcer.announce(piece.clone()));
    }
}

async fn write_all(ingest: &mut dyn Ingest, pieces: &[Bytes]) {
    ingest.write_pieces(pieces.to_vec()).await.expect("pieces are taken");
}

/// The ingest holds exactly `bytes`, and becomes a blob of them.
async fn assert_holds(store: &dyn ContentStore, ingest: &mut dyn Ingest, bytes: &[u8]) {
    assert_eq!(ingest.status().offset_bytes, bytes.len() as u64);
    assert_eq!(ingest.digest().await.expect("a digest"), sha256(bytes));
    commit(ingest, bytes).await.expect("it is committed");
    assert!(get(store, &sha256(bytes)).await == bytes, "the blob has other bytes");
}

pub(super) async fn announced_bytes_are_written_once(store: &dyn ContentStore) {
    let pieces = pieces(12, 1);
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), b"first").await;
    let mut written = b"first".to_vec();
    // The next pieces are announced before these are written.
    announce(ingest.as_ref(), &pieces[..4]);
    for at in (0..12).step_by(4) {
        announce(ingest.as_ref(), &pieces[(at + 4).min(12)..(at + 8).min(12)]);
        assert_eq!(ingest.status().offset_bytes, written.len() as u64, "a hint writes nothing");
        write_all(ingest.as_mut(), &pieces[at..at + 4]).await;
        written.extend(pieces[at..at + 4].concat());
        assert_eq!(ingest.digest().await.expect("a digest"), sha256(&written));
    }
    assert_holds(store, ingest.as_mut(), &written).await;
}

pub(super) async fn only_what_is_written_counts(store: &dyn ContentStore) {
    let (announced, others) = (pieces(4, 1), pieces(4, 99));
    // The first, the last, all of them are others; equal bytes elsewhere in memory; another order.
    let copies: Vec<Bytes> = announced.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let wanted = [
        vec![others[0].clone(), announced[1].clone(), announced[2].clone(), announced[3].clone()],
        vec![announced[0].clone(), announced[1].clone(), announced[2].clone(), others[3].clone()],
        others,
        copies,
        announced.iter().rev().cloned().collect(),
        announced.iter().skip(1).cloned().collect(),
        announced.iter().map(|piece| piece.slice(..PIECE_BYTES - 1)).collect(),
    ];
    for (number, pieces) in wanted.iter().enumerate() {
        let mut ingest = begin(store, &format!("k{number}")).await;
        write(ingest.as_mut(), &[number as u8]).await;
        announce(ingest.as_ref(), &announced);
        write_all(ingest.as_mut(), pieces).await;
        write(ingest.as_mut(), b"last").await;
        let written = [&[number as u8], &pieces.concat()[..], b"last"].concat();
        assert_holds(store, ingest.as_mut(), &written).await;
    }
}

pub(super) async fn announced_bytes_that_are_never_written_are_nothing(store: &dyn ContentStore) {
    let pieces = pieces(4, 1);
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), b"abc").await;
    announce(ingest.as_ref(), &pieces);
    assert_holds(store, ingest.as_mut(), b"abc").await;
    drop(ingest);

    let mut ingest = begin(store, "dropped").await;
    write(ingest.as_mut(), b"def").await;
    announce(ingest.as_ref(), &pieces);
    drop(ingest);
    let mut ingest = begin_when_free(store, "dropped", IngestOptions::default()).await;
    assert_holds(store, ingest.as_mut(), b"def").await;
}

pub(super) async fn announced_bytes_may_be_written_in_part_or_with_more(store: &dyn ContentStore) {
    let pieces = pieces(8, 1);
    let mut ingest = begin(store, "k").await;
    announce(ingest.as_ref(), &pieces[..3]);
    write_all(ingest.as_mut(), &pieces[..2]).await;
    // The third was announced before, the fourth never, and empty pieces count for nothing.
    write_all(ingest.as_mut(), &[pieces[2].clone(), Bytes::new(), pieces[3].clone()]).await;
    announce(ingest.as_ref(), &[Bytes::new(), pieces[4].clone()]);
    announce(ingest.as_ref(), &pieces[5..]);
    ingest.write(pieces[4].clone()).await.expect("it is written");
    write_all(ingest.as_mut(), &pieces[5..]).await;
    assert_holds(store, ingest.as_mut(), &pieces.concat()).await;
}

pub(super) async fn the_same_bytes_may_be_announced_and_written_again(store: &dyn ContentStore) {
    let pieces = pieces(2, 1);
    let mut ingest = begin(store, "k").await;
    let mut written = Vec::new();
    for _ in 0..3 {
        announce(ingest.as_ref(), &pieces);
        announce(ingest.as_ref(), &pieces);
        for _ in 0..3 {
            write_all(ingest.as_mut(), &pieces).await;
            written.extend(pieces.concat());
        }
    }
    assert_holds(store, ingest.as_mut(), &written).await;
}

pub(super) async fn a_truncation_forgets_what_was_announced(store: &dyn ContentStore) {
    let pieces = pieces(4, 1);
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), b"wrong").await;
    announce(ingest.as_ref(), &pieces[..3]);
    ingest.truncate().await.expect("it is truncated");
    announce(ingest.as_ref(), &pieces[3..]);
    write_all(ingest.as_mut(), &pieces).await;
    assert_holds(store, ingest.as_mut(), &pieces.concat()).await;
}

pub(super) async fn announcements_for_a_finished_or_dropped_ingest_are_nothing(store: &dyn ContentStore) {
    let pieces = pieces(4, 1);
    let mut ingest = begin(store, "k").await;
    let announcer = ingest.announcer();
    commit(ingest.as_mut(), b"").await.expect("it is committed");
    announce(ingest.as_ref(), &pieces);
    assert!(ingest.write_pieces(pieces.clone()).await.is_err(), "a finished ingest was written to");
    drop(ingest);
    let mut next = begin_when_free(store, "k", IngestOptions::default()).await;
    if let Some(announcer) = announcer {
        pieces.iter().for_each(|piece| announcer.announce(piece.clone()));
    }
    write_all(next.as_mut(), &pieces[..1]).await;
    assert_holds(store, next.as_mut(), &pieces[0]).await;
}

pub(super) async fn a_refused_commit_leaves_what_was_announced_to_be_written(store: &dyn ContentStore) {
    let pieces = pieces(4, 1);
    let mut ingest = begin(store, "k").await;
    write_all(ingest.as_mut(), &pieces[..2]).await;
    announce(ingest.as_ref(), &pieces[2..]);
    let options = CommitOptions { size_bytes: Some(1), ..CommitOptions::default() };
    assert_kind(ingest.commit(options).await, ErrorKind::FailedPrecondition);
    assert!(!exists(store, &sha256(&pieces[..2].concat())).await);
    write_all(ingest.as_mut(), &pieces[2..]).await;
    assert_holds(store, ingest.as_mut(), &pieces.concat()).await;
}
