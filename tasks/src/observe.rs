//! What is learned from the events that shims forward (`consistency.md` §6).

use corten_api::containerd::events::{TaskCreate, TaskExecStarted, TaskExit};
use corten_events::Envelope;
use prost::Message;

use crate::{
    convert::{time_from_wire, type_name},
    exits::ExitKey,
    inner::Inner,
    model::Exit,
    registry::Key,
};

/// Learns from `envelope`. `false` if it repeats an exit that was published.
pub(crate) fn observe(inner: &Inner, envelope: &Envelope) -> bool {
    let value = envelope.event.value.clone();
    // What cannot be read is not ours to judge.
    match type_name(&envelope.event.type_url) {
        "containerd.events.TaskExit" => {
            TaskExit::decode(value).map_or(true, |event| exited(inner, envelope, event))
        }
        "containerd.events.TaskExecStarted" => {
            if let Ok(event) = TaskExecStarted::decode(value) {
                let task = Key::new(&envelope.namespace, event.container_id);
                if let Some(task) = inner.registry.live(&task) {
                    task.note_exec_started(&event.exec_id, event.pid);
                }
                inner.exits.forget(&ExitKey { task, process: event.exec_id, pid: event.pid });
            }
            true
        }
        "containerd.events.TaskCreate" => {
            if let Ok(event) = TaskCreate::decode(value) {
                let task = Key::new(&envelope.namespace, event.container_id);
                let process = task.id.clone();
                inner.exits.forget(&ExitKey { task, process, pid: event.pid });
            }
            true
        }
        _ => true,
    }
}

fn exited(inner: &Inner, envelope: &Envelope, event: TaskExit) -> bool {
    let task = Key::new(&envelope.namespace, event.container_id);
    if let Some(live) = inner.registry.live(&task) {
        if event.id == task.id {
            let at = time_from_wire(event.exited_at);
            live.note_exit(Exit { pid: event.pid, status: event.exit_status, at });
        } else {
            live.note_exec_ended(&event.id);
        }
    }
    inner.exits.record(ExitKey { task, process: event.id, pid: event.pid })
}

#[cfg(test)]
mod tests;
