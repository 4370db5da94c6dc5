//! What a refusal looks like.

use std::sync::Arc;

use corten_runtime_runc::{
    CheckpointOptions, CreateOptions, Operation, ProcessIo, Processes, RestoreOptions, Runtime, RuntimeError,
};
use corten_types::{Error, ErrorKind};
use serde_json::json;

use crate::{
    bundle::{Bundle, config},
    root_or_skip,
};

#[tokio::test]
async fn the_runtimes_own_message_is_reported() {
    root_or_skip!();
    let bundle = Bundle::new(&["/no/such/program"], false);
    let error = bundle
        .runtime
        .create(&bundle.id, bundle.path(), &CreateOptions::default(), ProcessIo::default())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("OCI runtime create failed: "), "{text}");
    assert!(text.contains("/no/such/program"), "{text}");
    assert_eq!(Error::from(error).kind(), ErrorKind::Unknown);
}

#[tokio::test]
async fn a_refused_specification_names_the_reason() {
    root_or_skip!();
    let bundle = Bundle::new(&["true"], false);
    let mut broken = config(&bundle.id, &["true"], false);
    broken["linux"]["namespaces"] = json!([{"type": "nonsense"}]);
    bundle.write_config(&broken);
    let error = bundle
        .runtime
        .create(&bundle.id, bundle.path(), &CreateOptions::default(), ProcessIo::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
}

#[tokio::test]
async fn a_missing_binary_is_named() {
    let runtime = Runtime::new("no-such-runtime", "/nonexistent");
    let error = runtime.version().await.unwrap_err();
    assert!(matches!(&error, RuntimeError::NotStarted { operation: Operation::Version, .. }), "{error}");
    let text = Error::from(error).chain();
    assert!(
        text.contains("no-such-runtime") && text.contains("executable file not found in $PATH"),
        "{text}"
    );
}

#[tokio::test]
async fn without_a_log_the_exit_status_and_the_output_are_reported() {
    let runtime = Runtime::new("/bin/false", "/nonexistent");
    let text = runtime.start("x").await.unwrap_err().to_string();
    assert_eq!(text, "OCI runtime start failed: /bin/false did not terminate successfully: exit status 1");
    let runtime = runtime.with_log("/nonexistent/log.json");
    let text = runtime.start("x").await.unwrap_err().to_string();
    assert!(text.contains("unable to retrieve OCI runtime error (open /nonexistent/log.json"), "{text}");
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_refused() {
    let runtime = Runtime::new("/bin/echo", "/nonexistent");
    assert!(matches!(runtime.state("x").await, Err(RuntimeError::BadAnswer { .. })));
    assert!(matches!(runtime.version().await, Err(RuntimeError::BadAnswer { .. })));
}

/// Records command lines and runs nothing.
#[derive(Debug, Default)]
struct Recorder(std::sync::Mutex<Vec<String>>);

#[async_trait::async_trait]
impl Processes for Recorder {
    async fn run(&self, command: std::process::Command) -> std::io::Result<std::process::ExitStatus> {
        let words: Vec<_> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let cleared = command.get_envs().any(|(name, value)| name == "NOTIFY_SOCKET" && value.is_none());
        assert!(cleared, "NOTIFY_SOCKET must not reach the runtime");
        self.0.lock().unwrap().push(words.join(" "));
        Ok(std::process::ExitStatus::default())
    }
}

#[tokio::test]
async fn command_lines_are_those_of_containerd() {
    let recorder = Arc::new(Recorder::default());
    let runtime = Runtime::new("runc", "/run/r/ns")
        .with_log("/b/log.json")
        .with_systemd_cgroup(true)
        .with_processes(recorder.clone());
    let create = CreateOptions {
        pid_file: Some("/b/init.pid".into()),
        console_socket: Some("/t/pty.sock".into()),
        no_pivot: true,
        no_new_keyring: true,
    };
    runtime.create("c", "/b".as_ref(), &create, ProcessIo::default()).await.unwrap();
    runtime.kill("c", 15, true).await.unwrap();
    let checkpoint = CheckpointOptions {
        image_path: Some("/i".into()),
        open_tcp: true,
        leave_running: true,
        ..CheckpointOptions::default()
    };
    runtime.checkpoint("c", &checkpoint).await.unwrap();
    let restore =
        RestoreOptions { checkpoint, detach: true, no_subreaper: true, ..RestoreOptions::default() };
    runtime.restore("c", "/b".as_ref(), &restore, ProcessIo::default()).await.unwrap();
    let shared = "runc --root /run/r/ns --log /b/log.json --log-format json --systemd-cgroup";
    let expected = [
        "create --bundle /b --pid-file /b/init.pid --console-socket /t/pty.sock --no-pivot --no-new-keyring c",
        "kill --all c 15",
        "checkpoint --image-path /i --tcp-established --leave-running c",
        "restore --image-path /i --tcp-established --leave-running --detach --no-subreaper --bundle /b c",
    ];
    let expected: Vec<_> = expected.iter().map(|line| format!("{shared} {line}")).collect();
    assert_eq!(*recorder.0.lock().unwrap(), expected);
}
