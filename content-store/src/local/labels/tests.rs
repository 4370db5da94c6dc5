use corten_types::{Algorithm, Digest, ErrorKind, Labels};
use proptest::prelude::*;

use super::{MAX_LABELS_BYTES, decode, encode};
use crate::Hasher;

fn digest() -> Digest {
    Hasher::digest_of(Algorithm::Sha256, b"")
}

#[test]
fn labels_may_take_a_mebibyte_and_no_more() {
    let of = |length: usize| Labels::from([("k".to_owned(), "v".repeat(length))]);
    let overhead = encode(&of(1_000_000), &digest()).unwrap().len() - 1_000_000;
    let most = MAX_LABELS_BYTES - overhead;
    assert_eq!(encode(&of(most), &digest()).unwrap().len(), MAX_LABELS_BYTES);
    assert_eq!(encode(&of(most + 1), &digest()).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn cut_files_are_noticed() {
    let labels = Labels::from([("a,1:".to_owned(), "ü".to_owned()), ("b\n".to_owned(), String::new())]);
    let bytes = encode(&labels, &digest()).unwrap();
    assert_eq!(decode(&bytes), Some(labels));
    for length in 1..bytes.len() {
        assert_ne!(decode(&bytes[..length]), decode(&bytes), "cut to {length}");
    }
}

proptest! {
    #[test]
    fn labels_come_back_as_they_were(labels in prop::collection::btree_map(".*", ".*", 0..8)) {
        prop_assert_eq!(decode(&encode(&labels, &digest()).unwrap()), Some(labels));
    }

    #[test]
    fn nothing_in_a_file_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn no_text_in_a_file_makes_it_panic(text in "[0-9:,aü]{0,40}") {
        let _ = decode(text.as_bytes());
    }
}
