use corten_api::{
    containerd::{
        events::{
            ContainerCreate, NamespaceUpdate, SandboxStart, TaskCreate, TaskExit, TaskIo,
            container_create::Runtime,
        },
        services::images::v1::ImageCreate,
    },
    convert::any_of,
};
use corten_events::EventFields;
use corten_types::{Any, Labels};

use super::ApiEventFields;

fn field(event: &Any, path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    ApiEventFields.field(event, &parts)
}

#[test]
fn texts_are_read_by_their_names_on_the_wire() {
    let exit = any_of(&TaskExit { container_id: "c1".into(), pid: 7, ..Default::default() });
    assert_eq!(field(&exit, "container_id").as_deref(), Some("c1"));
    assert_eq!(field(&exit, "id"), None, "an empty text is absent");
    assert_eq!(field(&exit, "pid"), None, "numbers cannot be named");
    assert_eq!(ApiEventFields.field(&exit, &[]), None);
}

#[test]
fn labels_are_read_by_a_key_with_dots_in_one_part_or_many() {
    let labels = Labels::from([("a.b/c".into(), "x".into())]);
    let image = any_of(&ImageCreate { name: "i".into(), labels: labels.clone() });
    let namespace = any_of(&NamespaceUpdate { name: "n".into(), labels });
    for event in [image, namespace] {
        assert_eq!(ApiEventFields.field(&event, &["labels", "a.b/c"]).as_deref(), Some("x"));
        assert_eq!(ApiEventFields.field(&event, &["labels", "a", "b/c"]).as_deref(), Some("x"));
        assert_eq!(ApiEventFields.field(&event, &["labels", "z"]), None);
    }
}

#[test]
fn fields_of_fields_are_read() {
    let runtime = Some(Runtime { name: "io.containerd.runc.v2".into(), options: None });
    let created = any_of(&ContainerCreate { id: "c".into(), image: "i".into(), runtime });
    assert_eq!(field(&created, "runtime/name").as_deref(), Some("io.containerd.runc.v2"));
    assert_eq!(field(&created, "runtime"), None);
    let io = Some(TaskIo { stdout: "/fifo".into(), ..Default::default() });
    let task = any_of(&TaskCreate { container_id: "c".into(), io, ..Default::default() });
    assert_eq!(field(&task, "io/stdout").as_deref(), Some("/fifo"));
    assert_eq!(field(&any_of(&TaskCreate::default()), "io/stdout"), None);
}

#[test]
fn what_is_unknown_or_damaged_has_no_fields() {
    let sandbox = any_of(&SandboxStart { sandbox_id: "s".into() });
    assert_eq!(field(&sandbox, "sandbox_id"), None);
    let mut damaged = any_of(&TaskExit { container_id: "c1".into(), ..Default::default() });
    damaged.value = bytes::Bytes::from_static(&[0xff]);
    assert_eq!(field(&damaged, "container_id"), None);
    let foreign = Any { type_url: "other.TaskExit".into(), value: bytes::Bytes::new() };
    assert_eq!(field(&foreign, "container_id"), None);
}
