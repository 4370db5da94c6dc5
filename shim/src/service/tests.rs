use std::{sync::Arc, time::Duration};

use corten_types::ErrorKind;

use super::Shim;
use crate::publisher::{Destination, Publisher};

fn shim() -> Arc<Shim> {
    let publisher = Publisher::new("default", Destination::Ttrpc("/nonexistent".into()));
    Arc::new(Shim::new("default", Arc::default(), publisher))
}

#[tokio::test]
async fn a_shim_ends_only_without_containers_and_takes_none_after_that() {
    let shim = shim();
    shim.reserve("one").unwrap();
    assert_eq!(shim.reserve("one").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(!shim.end_if_empty(), "also one that is being created counts");
    assert_eq!(shim.container("one").err().unwrap().kind(), ErrorKind::NotFound);
    shim.remove("one");
    assert!(shim.end_if_empty());
    shim.shut_down().await;
    assert_eq!(shim.reserve("two").unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_shim_that_was_forgotten_ends_by_itself() {
    let limit = Duration::from_millis(20);
    let shim = shim();
    shim.reserve("one").unwrap();
    let waiting = tokio::time::timeout(limit * 5, shim.abandoned(limit)).await;
    assert!(waiting.is_err(), "it has a container");
    shim.remove("one");
    shim.abandoned(limit).await;
    shim.shut_down().await;
}
