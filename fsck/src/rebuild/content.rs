//! Rows for image blobs: which namespace had them follows from what they refer to and from snapshots made of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
    time::SystemTime,
};

use corten_metadata::{BlobRow, Resource, Stored};
use corten_types::{Digest, Labels, Result};

use crate::{
    Store,
    blobs::{self, Files, HAS_NO_ROW, State, Wanted},
    catalogue::{Catalogue, ImageUse, Reference},
    manifests::{self, Parsed},
    pool::{self, Cancel},
    store::blocking,
};

/// Where blobs go of which nothing tells the namespace.
const FALLBACK: &str = "default";

/// The row of a blob that is there and whole.
pub(crate) async fn blob_row(store: &Store, namespace: &str, digest: &Digest) -> Result<Option<Stored>> {
    let wanted = Wanted { path: store.blob_path(digest), digest: digest.clone() };
    let path = wanted.path.clone();
    let state = blocking(move || Ok(blobs::hash(&wanted, &Cancel::default()))).await?;
    let State::Whole { size_bytes } = state else { return Ok(None) };
    let labels = read(&path, size_bytes).map(|parsed| parsed.labels()).unwrap_or_default();
    Ok(Some(row(namespace, digest, size_bytes, labels)))
}

fn row(namespace: &str, digest: &Digest, size_bytes: u64, labels: Labels) -> Stored {
    let now = SystemTime::now();
    Stored::Blob(BlobRow {
        namespace: namespace.to_owned(),
        digest: digest.clone(),
        size_bytes,
        labels,
        created_at: now,
        updated_at: now,
    })
}

fn read(path: &std::path::Path, size_bytes: u64) -> Option<Parsed> {
    if size_bytes > manifests::MOST_BYTES {
        return None;
    }
    manifests::parse(&fs::read(path).ok()?)
}

/// Makes rows for whole blobs that no namespace has, and says how many.
pub(super) async fn describe(store: &Store) -> Result<u64> {
    let catalogue = Arc::new(Catalogue::read(store).await?);
    catalogue.read_files(&store.content).await?;
    let mut unknown: BTreeMap<Digest, (u64, Parsed)> = BTreeMap::new();
    let mut results = pool::run(Files::new(store, &catalogue, HAS_NO_ROW, None), |wanted, cancel| {
        let State::Whole { size_bytes } = blobs::hash(wanted, cancel) else { return None };
        Some((wanted.digest.clone(), size_bytes, read(&wanted.path, size_bytes).unwrap_or_default()))
    })?;
    while let Some(found) = results.next().await? {
        unknown.extend(found.map(|(digest, size, parsed)| (digest, (size, parsed))));
    }
    if unknown.is_empty() {
        return Ok(0);
    }
    let owners = owners(&catalogue, &unknown)?;
    let labels = labels(&catalogue, &unknown, &owners)?;
    let mut made = 0;
    for (digest, (size_bytes, _)) in &unknown {
        let fallback = BTreeSet::from([FALLBACK.to_owned()]);
        // Its row may have been on its way.
        let _hold = store.metadata.hold_blob(digest).await;
        if !store.metadata.blob_rows(digest).await?.is_empty() {
            continue;
        }
        for namespace in owners.get(digest).unwrap_or(&fallback) {
            let labels = labels.get(&(namespace.clone(), digest.clone())).cloned().unwrap_or_default();
            let stored = row(namespace, digest, *size_bytes, labels);
            made += store.metadata.restore(vec![stored]).await?.len() as u64;
            let resource = Resource { kind: "content".to_owned(), id: digest.to_string() };
            store.metadata.keep_recovered(namespace, vec![resource]).await?;
        }
    }
    Ok(made)
}

/// The namespaces that blobs seem to have been in.
fn owners(
    catalogue: &Catalogue,
    unknown: &BTreeMap<Digest, (u64, Parsed)>,
) -> Result<BTreeMap<Digest, BTreeSet<String>>> {
    let mut owners: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
    let mut add = |target: &str, namespace: String| {
        if let Ok(target) = target.parse::<Digest>()
            && unknown.contains_key(&target)
        {
            owners.entry(target).or_default().insert(namespace);
        }
    };
    // What a blob with a row refers to is in the same namespace, and so is the target of an image.
    let mut after = 0;
    loop {
        let page: Vec<Reference> = catalogue.next_page(&mut after, "this.snapshotter IS NULL", &[])?;
        if page.is_empty() {
            break;
        }
        page.into_iter().for_each(|row| add(&row.target, row.namespace));
    }
    let mut after = 0;
    loop {
        let page: Vec<ImageUse> = catalogue.next_page(&mut after, "TRUE", &[])?;
        if page.is_empty() {
            break;
        }
        page.into_iter().for_each(|row| add(&row.target, row.namespace));
    }
    // A config leads to the snapshot that its image was unpacked to.
    for (digest, (_, parsed)) in unknown {
        let Some(chain) = parsed.chain_id() else { continue };
        for (namespace, _) in catalogue.snapshots_with_key(&chain)? {
            owners.entry(digest.clone()).or_default().insert(namespace);
        }
    }
    // Upwards from configs to manifests and indexes, then downwards to layers, until nothing more follows.
    loop {
        let mut grown = false;
        for (digest, (_, parsed)) in unknown {
            let mut own = owners.get(digest).cloned().unwrap_or_default();
            let kept = own.len();
            for (_, child) in &parsed.children {
                own.extend(owners.get(child).into_iter().flatten().cloned());
            }
            grown |= own.len() > kept;
            for (_, child) in parsed.children.iter().filter(|(_, child)| unknown.contains_key(child)) {
                let below = owners.entry(child.clone()).or_default();
                let before = below.len();
                below.extend(own.iter().cloned());
                grown |= below.len() > before;
            }
            if !own.is_empty() {
                owners.insert(digest.clone(), own);
            }
        }
        if !grown {
            owners.retain(|_, namespaces| !namespaces.is_empty());
            return Ok(owners);
        }
    }
}

/// What clients that pull write on blobs: what they refer to, the snapshot of an image, and what a layer is uncompressed.
fn labels(
    catalogue: &Catalogue,
    unknown: &BTreeMap<Digest, (u64, Parsed)>,
    owners: &BTreeMap<Digest, BTreeSet<String>>,
) -> Result<BTreeMap<(String, Digest), Labels>> {
    let mut labels: BTreeMap<(String, Digest), Labels> = BTreeMap::new();
    for (digest, (_, parsed)) in unknown {
        let fallback = BTreeSet::from([FALLBACK.to_owned()]);
        for namespace in owners.get(digest).unwrap_or(&fallback) {
            let own = labels.entry((namespace.clone(), digest.clone())).or_default();
            own.extend(parsed.labels());
            if let Some(chain) = parsed.chain_id() {
                let snapshots = catalogue.snapshots_with_key(&chain)?.into_iter();
                for (_, snapshotter) in snapshots.filter(|(owner, _)| owner == namespace) {
                    own.insert(format!("containerd.io/gc.ref.snapshot.{snapshotter}"), chain.clone());
                }
            }
            let config = parsed.config.as_ref().and_then(|config| unknown.get(config));
            for (layer, diff_id) in
                parsed.layers.iter().zip(config.iter().flat_map(|(_, config)| &config.diff_ids))
            {
                labels
                    .entry((namespace.clone(), layer.clone()))
                    .or_default()
                    .insert("containerd.io/uncompressed".to_owned(), diff_id.to_string());
            }
        }
    }
    Ok(labels)
}
