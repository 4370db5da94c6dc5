use std::time::SystemTime;

use corten_api::containerd::v1::types::Status;
use corten_types::ErrorKind;

use super::{Doing, Phase, Process};
use crate::stdio::StreamNames;

fn process() -> Process {
    Process::new("one", StreamNames::default())
}

#[test]
fn refusals_use_containerds_words() {
    for (doing, phase, words) in [
        (Doing::Start, Phase::Running, "cannot start a running process"),
        (Doing::Start, Phase::Paused, "cannot start a paused process"),
        (Doing::Start, Phase::Stopped, "cannot start a stopped process"),
        (Doing::Pause, Phase::Created, "cannot pause task in created state"),
        (Doing::Pause, Phase::Paused, "cannot pause a paused container"),
        (Doing::Pause, Phase::Stopped, "cannot pause a stopped container"),
        (Doing::Resume, Phase::Created, "cannot resume task in created state"),
        (Doing::Resume, Phase::Running, "cannot resume a running process"),
        (Doing::Resume, Phase::Stopped, "cannot resume a stopped container"),
        (Doing::Update, Phase::Stopped, "cannot update a stopped container"),
        (Doing::Checkpoint, Phase::Created, "cannot checkpoint a task in created state"),
        (Doing::Checkpoint, Phase::Stopped, "cannot checkpoint a stopped container"),
        (Doing::Exec, Phase::Paused, "cannot exec in a paused state"),
        (Doing::Exec, Phase::Stopped, "cannot exec in a stopped state"),
        (Doing::Delete, Phase::Running, "cannot delete a running process"),
        (Doing::Delete, Phase::Paused, "cannot delete a paused process"),
        (Doing::Pause, Phase::Deleted, "cannot pause a deleted process"),
    ] {
        let error = doing.refusal(phase);
        assert_eq!((error.message(), error.kind()), (words, ErrorKind::Unknown));
    }
    for doing in [Doing::Kill, Doing::Delete] {
        assert_eq!(doing.refusal(Phase::Deleted).kind(), ErrorKind::NotFound);
    }
}

#[test]
fn an_end_during_a_change_is_not_overwritten() {
    let process = process();
    process.enter(Phase::Created, Phase::Starting, Doing::Start).unwrap();
    assert_eq!(process.status(), Status::Created);
    process.leave(Phase::Starting, Phase::Running);
    process.enter(Phase::Running, Phase::Pausing, Doing::Pause).unwrap();
    assert_eq!(process.status(), Status::Pausing);
    assert!(process.set_finished(137, SystemTime::now()), "it was paused");
    process.leave(Phase::Pausing, Phase::Paused);
    assert_eq!(process.status(), Status::Stopped);
    assert_eq!(process.finished().unwrap().status, 137);
}

#[test]
fn a_deletion_that_fails_can_be_tried_again() {
    let process = process();
    process.enter_deletion().unwrap();
    assert_eq!(process.enter_deletion().unwrap_err().kind(), ErrorKind::FailedPrecondition);
    process.set_finished(137, SystemTime::now());
    process.abandon_deletion();
    assert_eq!(process.phase(), Phase::Stopped);
    process.enter_deletion().unwrap();
    process.set_deleted();
    assert_eq!(process.enter_deletion().unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn waiting_ends_with_the_process_and_at_once_afterwards() {
    let process = std::sync::Arc::new(process());
    let waiter = tokio::spawn({
        let process = process.clone();
        async move { process.wait().await.status }
    });
    process.set_finished(3, SystemTime::now());
    assert_eq!(waiter.await.unwrap(), 3);
    assert_eq!(process.wait().await.status, 3);
}
