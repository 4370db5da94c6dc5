use super::*;
use futures::FutureExt;

fn key() -> Key {
    Key::new(&"default".parse().unwrap(), "web")
}

#[tokio::test]
async fn a_task_that_is_being_made_is_not_found_and_its_name_is_taken() {
    let registry = Arc::new(Registry::default());
    let reservation = registry.reserve(&key()).await.unwrap();
    assert_eq!(registry.find(&key()).await.err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(registry.reserve(&key()).await.err().unwrap().kind(), ErrorKind::AlreadyExists);
    drop(reservation);
    registry.reserve(&key()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_being_reconnected_is_waited_for_then_unavailable_never_not_found() {
    let registry = Arc::new(Registry::default());
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    let reservation = registry.reconnect(&key(), deadline).unwrap();
    assert!(registry.reconnect(&key(), deadline).is_none());
    assert_eq!(registry.find(&key()).await.err().unwrap().kind(), ErrorKind::Unavailable);
    assert!(Instant::now() >= deadline);
    // After the deadline nobody waits any more.
    assert_eq!(registry.find(&key()).now_or_never().unwrap().err().unwrap().kind(), ErrorKind::Unavailable);
    assert_eq!(registry.reserve(&key()).await.err().unwrap().kind(), ErrorKind::Unavailable);
    drop(reservation);
    assert_eq!(registry.find(&key()).await.err().unwrap().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn those_who_wait_are_told_when_it_turns_out_to_be_dead() {
    let registry = Arc::new(Registry::default());
    let deadline = Instant::now() + std::time::Duration::from_secs(600);
    let reservation = registry.reconnect(&key(), deadline).unwrap();
    let waiter = {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move { registry.find(&key()).await.err().unwrap().kind() })
    };
    tokio::task::yield_now().await;
    drop(reservation);
    assert_eq!(waiter.await.unwrap(), ErrorKind::NotFound);
}
