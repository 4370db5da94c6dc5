//! Blobs against their digests and rows.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use corten_content_store::Hasher;
use corten_types::{Algorithm, Digest, Error, Result};
use rustix::fs::Advice;

use crate::{
    Finding, Kind, Store, Thing, affected,
    catalogue::{BlobUse, Catalogue, FileName},
    check::Run,
    pool::{self, Cancel},
    store::blocking,
};

/// How much of a blob is read at once.
const READ_BYTES: usize = 1 << 20;

/// A blob to look at.
pub(crate) struct Wanted {
    pub(crate) digest: Digest,
    pub(crate) path: PathBuf,
}

/// What a blob is.
pub(crate) enum State {
    /// It has its digest.
    Whole { size_bytes: u64 },
    /// It has not, or cannot be read.
    Damaged { problem: String, identity: Option<Identity>, read_bytes: u64 },
    /// It is not there any more.
    Gone,
    /// Nobody waits for the answer.
    Cancelled,
}

/// Which file it was, and what it looked like.
pub(crate) type Identity = (u64, u64, u64, i64, i64);

/// How many digests are told at once.
const TOLD_TOGETHER: usize = 1000;

/// Tells the digests in the folder of blobs, until `tell` says that it has enough, and answers with the names that are none.
pub(crate) fn list(root: &Path, mut tell: impl FnMut(Vec<String>) -> bool) -> Result<Vec<PathBuf>> {
    let mut digests = Vec::new();
    let mut strays = Vec::new();
    for algorithm in Algorithm::ALL {
        let folder = root.join("blobs").join(algorithm.name());
        let failed = |error| Error::io(format!("cannot list {}", folder.display()), error);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let digest = name.to_str().map(|hex| format!("{}:{hex}", algorithm.name()));
            match digest.filter(|digest| digest.parse::<Digest>().is_ok()) {
                Some(digest) => digests.push(digest),
                None => strays.push(folder.join(name)),
            }
            if digests.len() == TOLD_TOGETHER && !tell(std::mem::take(&mut digests)) {
                return Ok(strays);
            }
        }
    }
    tell(digests);
    Ok(strays)
}

/// Hashes a blob.
pub(crate) fn hash(wanted: &Wanted, cancel: &Cancel) -> State {
    let damaged = |problem: String, identity, read_bytes| State::Damaged { problem, identity, read_bytes };
    let identity = match wanted.path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return State::Gone,
        Err(error) => return damaged(format!("it cannot be looked at: {error}"), None, 0),
        Ok(metadata) if !metadata.is_file() => {
            return damaged(
                "there is something else in its place".to_owned(),
                Some(identity_of(&metadata)),
                0,
            );
        }
        Ok(metadata) => identity_of(&metadata),
    };
    let mut file = match File::open(&wanted.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return State::Gone,
        Err(error) => return damaged(format!("it cannot be opened: {error}"), Some(identity), 0),
        Ok(file) => file,
    };
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
    let mut hasher = Hasher::new(wanted.digest.algorithm());
    let mut buffer = vec![0; READ_BYTES];
    let mut read_bytes = 0_u64;
    loop {
        if cancel.is_told() {
            return State::Cancelled;
        }
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                read_bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return damaged(format!("it cannot be read: {error}"), Some(identity), read_bytes),
        }
    }
    // A check reads everything once: what clients read often should stay in memory instead.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    let found = hasher.digest();
    if found == wanted.digest {
        return State::Whole { size_bytes: read_bytes };
    }
    damaged(format!("its {read_bytes} bytes have the digest {found}"), Some(identity), read_bytes)
}

fn identity_of(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

/// In SQL, that a blob has no file; of its rows this is the first, or the one in the namespace `?2`.
const HAS_NO_FILE: &str =
    "NOT EXISTS (SELECT 1 FROM file WHERE file.digest = this.digest) AND CASE WHEN ?2 IS NULL
    THEN NOT EXISTS (SELECT 1 FROM blob WHERE blob.digest = this.digest AND blob.rowid < this.rowid)
    ELSE this.namespace = ?2 END";

/// In SQL, that a file has no row.
pub(crate) const HAS_NO_ROW: &str = "NOT EXISTS (SELECT 1 FROM blob WHERE blob.digest = this.digest)";

/// In SQL, that a file has a row in the namespace `?2`.
const IS_IN_NAMESPACE: &str =
    "EXISTS (SELECT 1 FROM blob WHERE blob.digest = this.digest AND blob.namespace = ?2)";

/// The files that are to be hashed: those that fulfil a condition on the table of files.
pub(crate) struct Files {
    store: Store,
    catalogue: Arc<Catalogue>,
    condition: &'static str,
    namespace: Option<String>,
    after: i64,
    page: std::vec::IntoIter<FileName>,
}

impl Files {
    pub(crate) fn new(
        store: &Store,
        catalogue: &Arc<Catalogue>,
        condition: &'static str,
        namespace: Option<String>,
    ) -> Self {
        let (store, catalogue) = (store.clone(), Arc::clone(catalogue));
        Self { store, catalogue, condition, namespace, after: 0, page: Vec::new().into_iter() }
    }

    fn next_name(&mut self) -> Result<Option<FileName>> {
        if let Some(name) = self.page.next() {
            return Ok(Some(name));
        }
        let params: Vec<&dyn rusqlite::ToSql> =
            self.namespace.iter().map(|name| name as &dyn rusqlite::ToSql).collect();
        self.page = self.catalogue.next_page(&mut self.after, self.condition, &params)?.into_iter();
        Ok(self.page.next())
    }
}

impl Iterator for Files {
    type Item = Result<Wanted>;

    fn next(&mut self) -> Option<Self::Item> {
        let FileName(digest) = match self.next_name() {
            Err(error) => return Some(Err(error)),
            Ok(name) => name?,
        };
        Some(digest.parse::<Digest>().map(|digest| Wanted { path: self.store.blob_path(&digest), digest }))
    }
}

impl Run<'_, '_> {
    pub(crate) async fn check_blobs(&mut self) -> Result<()> {
        let whole_store = self.scope.namespace.is_none();
        let strays = self.catalogue.read_files(&self.store.content).await?;
        for path in strays.into_iter().filter(|_| whole_store) {
            let thing = Thing::File(path.display().to_string());
            self.found(Finding::new(Kind::StrayFile, thing, "its name is no digest"));
        }
        self.look_for_missing_blobs().await?;
        if whole_store {
            self.look_for_unknown_blobs().await?;
        }
        self.hash_all().await
    }

    async fn look_for_missing_blobs(&mut self) -> Result<()> {
        let mut after = 0;
        loop {
            let namespace = &self.scope.namespace;
            let page: Vec<BlobUse> = self.catalogue.next_page(&mut after, HAS_NO_FILE, &[namespace])?;
            if page.is_empty() {
                return Ok(());
            }
            for BlobUse(digest) in page {
                self.look_at_missing(&digest.parse()?).await?;
            }
        }
    }

    async fn look_for_unknown_blobs(&mut self) -> Result<()> {
        let mut after = 0;
        loop {
            let page: Vec<FileName> = self.catalogue.next_page(&mut after, HAS_NO_ROW, &[])?;
            if page.is_empty() {
                return Ok(());
            }
            for FileName(digest) in page {
                self.look_at_unknown(&digest.parse()?).await?;
            }
        }
    }

    async fn hash_all(&mut self) -> Result<()> {
        let namespace = self.scope.namespace.clone();
        let condition = if namespace.is_some() { IS_IN_NAMESPACE } else { "TRUE" };
        let total = {
            let params: Vec<&dyn rusqlite::ToSql> =
                namespace.iter().map(|name| name as &dyn rusqlite::ToSql).collect();
            self.catalogue.count::<FileName>(condition, &params)?
        };
        let files = Files::new(self.store, &self.catalogue, condition, namespace);
        let mut results = pool::run(files, |wanted, cancel| (wanted.digest.clone(), hash(wanted, cancel)))?;
        let mut done = 0;
        while let Some((digest, state)) = results.next().await? {
            done += 1;
            match state {
                State::Whole { size_bytes } => {
                    self.report.bytes += size_bytes;
                    self.check_size(&digest, size_bytes).await?;
                }
                State::Damaged { problem, identity, read_bytes } => {
                    self.report.bytes += read_bytes;
                    self.look_at_damaged(&digest, problem, identity).await?;
                }
                State::Gone | State::Cancelled => {}
            }
            self.report.blobs = done;
            self.progress("blobs", done, total);
        }
        Ok(())
    }

    /// It may have been removed, and made anew, meanwhile.
    async fn look_at_damaged(
        &mut self,
        digest: &Digest,
        mut problem: String,
        identity: Option<Identity>,
    ) -> Result<()> {
        let hold = self.store.metadata.hold_blob(digest).await;
        let path = self.store.blob_path(digest);
        let now = path.symlink_metadata().ok().map(|metadata| identity_of(&metadata));
        drop(hold);
        if now.is_none() && identity.is_some() {
            return Ok(());
        }
        if now != identity {
            let again = Wanted { digest: digest.clone(), path };
            match blocking(move || Ok(hash(&again, &Cancel::default()))).await? {
                State::Damaged { problem: again, .. } => problem = again,
                _ => return Ok(()),
            }
        }
        let affects = affected::by_blob(&self.catalogue, digest.as_str())?;
        let thing = Thing::Blob(digest.clone());
        self.found(Finding::new(Kind::BlobDamaged, thing, problem).affecting(affects));
        Ok(())
    }

    async fn look_at_missing(&mut self, digest: &Digest) -> Result<()> {
        let hold = self.store.metadata.hold_blob(digest).await;
        let rows = self.store.metadata.blob_rows(digest).await?;
        let is_there = self.store.blob_path(digest).symlink_metadata().is_ok();
        drop(hold);
        if rows.is_empty() || is_there {
            return Ok(());
        }
        let namespaces: Vec<String> = rows.into_iter().map(|row| row.namespace).collect();
        let affects = affected::by_blob(&self.catalogue, digest.as_str())?;
        let problem = format!("it is not there, and has rows in {}", namespaces.join(", "));
        self.found(Finding::new(Kind::BlobMissing, Thing::Blob(digest.clone()), problem).affecting(affects));
        Ok(())
    }

    async fn look_at_unknown(&mut self, digest: &Digest) -> Result<()> {
        let hold = self.store.metadata.hold_blob(digest).await;
        let rows = self.store.metadata.blob_rows(digest).await?;
        let is_there = self.store.blob_path(digest).symlink_metadata().is_ok();
        drop(hold);
        if rows.is_empty() && is_there {
            let thing = Thing::Blob(digest.clone());
            self.found(Finding::new(Kind::BlobUnknown, thing, "no namespace has it"));
        }
        Ok(())
    }

    async fn check_size(&mut self, digest: &Digest, size_bytes: u64) -> Result<()> {
        if self.catalogue.sizes(digest.as_str())?.iter().all(|size| *size == size_bytes) {
            return Ok(());
        }
        let rows = self.store.metadata.blob_rows(digest).await?;
        if let Some(wrong) = rows.iter().find(|row| row.size_bytes != size_bytes) {
            let problem = format!(
                "it has {size_bytes} bytes, and the row in {} says {}",
                wrong.namespace, wrong.size_bytes
            );
            self.found(Finding::new(Kind::BlobSize, Thing::Blob(digest.clone()), problem));
        }
        Ok(())
    }
}
