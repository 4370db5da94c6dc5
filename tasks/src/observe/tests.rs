use super::*;
use corten_events::{Exchange, NoEventFields};
use corten_types::Any;

use crate::options::Options;

fn inner() -> Inner {
    let events = Exchange::new(std::sync::Arc::new(NoEventFields));
    Inner::new(Options::new("/not/there", "/not/there", "/d.sock", "/d.sock.ttrpc", events))
}

fn envelope(topic: &str, type_url: &str, event: &impl Message) -> Envelope {
    let event = Any { type_url: type_url.into(), value: event.encode_to_vec().into() };
    Envelope::received(Some(std::time::SystemTime::now()), "default", topic, event).unwrap()
}

fn exit(process: &str, pid: u32) -> Envelope {
    let event = TaskExit { container_id: "web".into(), id: process.into(), pid, ..TaskExit::default() };
    envelope("/tasks/exit", "containerd.events.TaskExit", &event)
}

#[test]
fn a_repeated_exit_is_not_published_again() {
    let inner = inner();
    assert!(observe(&inner, &exit("web", 7)));
    assert!(!observe(&inner, &exit("web", 7)));
    assert!(observe(&inner, &exit("shell", 7)));
    assert!(observe(&inner, &exit("web", 8)));
}

#[test]
fn an_exit_that_was_made_up_is_not_repeated_by_the_shim() {
    let inner = inner();
    let key = Key::new(&"default".parse().unwrap(), "web");
    inner.publish_exit(&key, "web", Exit { pid: 7, status: 137, at: None });
    assert!(!observe(&inner, &exit("web", 7)));
}

#[test]
fn a_process_that_starts_with_a_known_pid_has_an_exit_of_its_own() {
    let inner = inner();
    for process in ["web", "shell"] {
        assert!(observe(&inner, &exit(process, 7)));
    }
    let created = TaskCreate { container_id: "web".into(), pid: 7, ..TaskCreate::default() };
    assert!(observe(&inner, &envelope("/tasks/create", "containerd.events.TaskCreate", &created)));
    let started = TaskExecStarted { container_id: "web".into(), exec_id: "shell".into(), pid: 7 };
    assert!(observe(&inner, &envelope("/tasks/exec-started", "containerd.events.TaskExecStarted", &started)));
    for process in ["web", "shell"] {
        assert!(observe(&inner, &exit(process, 7)), "{process}");
    }
}

#[test]
fn what_cannot_be_read_is_passed_on() {
    let inner = inner();
    let mut damaged = exit("web", 7);
    damaged.event.value = vec![0xff; 3].into();
    for _ in 0..2 {
        assert!(observe(&inner, &damaged));
    }
}
