//! Several containers in one shim.

use corten_api::containerd::task::v3;
use serde_json::json;

use crate::{
    alone::{Scratch, run, unique},
    leaks, root_or_skip,
};
use prost::Message;

#[tokio::test]
async fn containers_of_a_group_share_a_shim_until_the_last_is_gone() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let group = unique("group");
    let ids = [format!("{group}-a"), format!("{group}-b")];
    for id in &ids {
        scratch.write_bundle(id, &["sleep", "1000"], false, |config| {
            config["annotations"] = json!({"io.kubernetes.cri.sandbox-id": group});
        });
    }
    // Both at once: one of them starts the shim, the other finds it.
    let starts: Vec<_> = ids
        .iter()
        .map(|id| {
            let (command, input) = (scratch.command(id, "start"), scratch.parameters(id).encode_to_vec());
            std::thread::spawn(move || run(command, &input))
        })
        .collect();
    let answers: Vec<_> = starts.into_iter().map(|start| start.join().unwrap().stdout).collect();
    assert_eq!(answers[0], answers[1]);
    let address = scratch.start(&ids[0]).address;
    let shim = scratch.connect(&address, "containerd.task.v3.Task").await;
    let serving = leaks::processes_with(&scratch.path().join("d.sock").display().to_string());
    assert_eq!(serving.len(), 1, "{serving:?}");
    for id in &ids {
        shim.create(&scratch.create_request(id)).await.unwrap();
        shim.start(id, "").await.unwrap();
    }
    for id in &ids {
        let _: () = shim.call("Shutdown", &v3::ShutdownRequest::default()).await.unwrap();
        shim.kill(id, "", 9, false).await.unwrap();
        shim.wait(id, "").await;
        shim.delete(id, "").await.unwrap();
    }
    scratch.finish(shim).await;
}
