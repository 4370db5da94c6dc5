use std::cell::Cell;

use corten_types::{Algorithm, Digest, Result};

use super::{MAX_REMEMBERED, Names, State};
use crate::Hasher;

fn digests(count: u32) -> Vec<Digest> {
    let mut digests: Vec<_> =
        (0..count).map(|number| Hasher::digest_of(Algorithm::Sha256, &number.to_le_bytes())).collect();
    digests.sort();
    digests
}

/// Every page of a listing, and how often the folders were read for it.
fn listing(names: &Names, all: &[Digest], count: usize) -> (Vec<Digest>, usize) {
    let (mut listed, reads) = (Vec::<Digest>::new(), Cell::new(0));
    loop {
        let read = || {
            reads.set(reads.get() + 1);
            Ok(all.to_vec())
        };
        let page = names.page(listed.last().cloned().as_ref(), count, read).unwrap();
        let is_last = page.len() < count;
        listed.extend(page);
        if is_last {
            return (listed, reads.get());
        }
    }
}

fn is_forgotten(names: &Names) -> bool {
    matches!(*names.lock(), State::Unknown)
}

#[test]
fn the_folders_are_read_once_for_a_listing_of_many_pages() {
    let (names, all) = (Names::default(), digests(1000));
    for count in [1, 7, 100, 999, 1000, 1001] {
        assert_eq!(listing(&names, &all, count), (all.clone(), 1), "pages of {count}");
        assert!(is_forgotten(&names), "nothing is kept after the end");
    }
}

#[test]
fn a_page_shows_what_came_and_went_since_the_page_before() {
    let (names, all) = (Names::default(), digests(10));
    let first = names.page(None, 2, || Ok(all[..9].to_vec())).unwrap();
    names.changed(&all[9], true);
    names.changed(&all[3], false);
    let rest = names.page(first.last(), 100, || unreachable!("it is remembered")).unwrap();
    assert_eq!(rest, [&all[2..3], &all[4..]].concat());
}

#[test]
fn what_changes_while_the_folders_are_read_is_not_lost() {
    let (names, all) = (Names::default(), digests(10));
    let read = || -> Result<_> {
        names.changed(&all[0], false);
        names.changed(&all[9], true);
        // A second listing meanwhile reads for itself.
        assert_eq!(names.page(None, 3, || Ok(all[..5].to_vec()))?, all[..3]);
        Ok(all[..9].to_vec())
    };
    assert_eq!(names.page(None, 5, read).unwrap(), all[1..6]);
    assert_eq!(names.page(Some(&all[5]), 4, || unreachable!("it is remembered")).unwrap(), all[6..]);
}

#[test]
fn folders_that_cannot_be_read_are_read_again_next_time() {
    let (names, all) = (Names::default(), digests(3));
    assert!(names.page(None, 1, || Err(corten_types::Error::internal("broken"))).is_err());
    assert!(is_forgotten(&names));
    assert_eq!(listing(&names, &all, 1).0, all);
}

#[test]
fn the_most_names_are_remembered_and_one_more_is_not() {
    let most = u32::try_from(MAX_REMEMBERED).unwrap();
    let all = digests(most + 1);
    for (count, is_remembered) in [(MAX_REMEMBERED, true), (MAX_REMEMBERED + 1, false)] {
        let names = Names::default();
        names.page(None, 1, || Ok(all[..count].to_vec())).unwrap();
        assert_eq!(!is_forgotten(&names), is_remembered, "{count} names");
    }
}
