//! Containers whose tasks run: their bundles have the specification (`docs/formats/bundle.md`).

use std::{fs, path::Path, time::SystemTime};

use corten_metadata::{Container, In, Runtime, Stored};
use corten_types::{Any, Namespace, Result};

use crate::{Store, catalogue::Catalogue};

/// The type that clients give to OCI runtime specifications.
const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// What the name of a shim's program begins with.
const SHIM: &str = "containerd-shim-";

/// Makes rows for containers that have a bundle and no row. Their labels and images are not known any more.
pub(super) async fn containers(store: &Store) -> Result<u64> {
    let Some(folder) = store.bundles.as_deref() else { return Ok(0) };
    let catalogue = Catalogue::read(store).await?;
    let mut rows = Vec::new();
    for namespace in names(folder) {
        if namespace.parse::<Namespace>().is_err() {
            continue;
        }
        for id in names(&folder.join(&namespace)) {
            let is_known = catalogue.has_container(&namespace, &id)?;
            let bundle = folder.join(&namespace).join(&id);
            let Ok(spec) = fs::read(bundle.join("config.json")) else { continue };
            if is_known || id.starts_with('.') {
                continue;
            }
            let snapshots = catalogue.snapshots_with_key(&id)?.into_iter();
            let mut snapshotters = snapshots.filter(|(owner, _)| *owner == namespace).map(|(_, name)| name);
            let snapshotter = snapshotters.next().unwrap_or_default();
            let snapshot_key = if snapshotter.is_empty() { String::new() } else { id.clone() };
            let now = SystemTime::now();
            let record = Container {
                id,
                runtime: Runtime { name: runtime_of(&bundle), options: None },
                spec: Some(Any { type_url: SPEC_TYPE.to_owned(), value: spec.into() }),
                snapshotter,
                snapshot_key,
                created_at: now,
                updated_at: now,
                ..Container::default()
            };
            rows.push(Stored::Container(In { namespace: namespace.clone(), record }));
        }
    }
    Ok(store.metadata.restore(rows).await?.len() as u64)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// `containerd-shim-runc-v2` runs `io.containerd.runc.v2`.
fn runtime_of(bundle: &Path) -> String {
    let path = fs::read_to_string(bundle.join("shim-binary-path")).unwrap_or_default();
    let name = Path::new(path.trim()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.strip_prefix(SHIM) {
        Some(rest) => format!("io.containerd.{}", rest.replace('-', ".")),
        None => "io.containerd.runc.v2".to_owned(),
    }
}
