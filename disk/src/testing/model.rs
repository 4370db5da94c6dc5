//! A folder in memory, once as it is and once as the disk has it for certain.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use super::Unsynced;
use crate::seam::{FileId, Operation};

type NodeId = usize;
type Names = BTreeMap<OsString, NodeId>;

const ROOT: NodeId = 0;
const SECTOR: usize = 512;

enum Node {
    File(File),
    Folder { mode: u32, current: Names, durable: Names },
    Link(PathBuf),
}

#[derive(Default)]
struct File {
    current: Vec<u8>,
    mode: u32,
    durable: Vec<u8>,
    durable_mode: u32,
    /// Since the last sync, in order.
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLength(usize),
}

/// One change of names that reaches the disk as a whole.
#[derive(Clone)]
struct NameChange {
    edits: Vec<(NodeId, OsString, Option<NodeId>)>,
}

pub(super) struct Model {
    nodes: Vec<Node>,
    files: HashMap<FileId, NodeId>,
    pending: Vec<NameChange>,
}

impl Model {
    /// What is in `root` now, all of it synced.
    pub(super) fn of(root: &Path) -> io::Result<Self> {
        let folder = Node::Folder { mode: 0o755, current: Names::new(), durable: Names::new() };
        let mut model = Self { nodes: vec![folder], files: HashMap::new(), pending: Vec::new() };
        model.rescan(root)?;
        model.sync_everything();
        Ok(model)
    }

    /// Makes the acquaintance of files that `operation` names and that did not come by here.
    pub(super) fn meet(&mut self, root: &Path, operation: &Operation<'_>) -> io::Result<()> {
        match operation {
            Operation::Open { path, .. }
            | Operation::RemoveFile { path }
            | Operation::RemoveTree { path } => self.adopt_path(root, path),
            Operation::Rename { from, to } => {
                self.adopt_path(root, from)?;
                self.adopt_path(root, to)
            }
            Operation::HardLink { from, .. } => self.adopt_path(root, from),
            Operation::Create { path, .. } | Operation::CreateFolder { path, .. } => {
                path.parent().map_or(Ok(()), |parent| self.adopt_path(root, parent))
            }
            _ => Ok(()),
        }
    }

    /// Notes the harm of a failed operation: what a failed sync was for is not kept by a later one.
    pub(super) fn fail(&mut self, operation: &Operation<'_>) {
        if let Operation::SyncData { file, .. } | Operation::SyncAll { file, .. } = operation
            && let Some(file) = self.file(*file)
        {
            file.unsynced.clear();
        }
    }

    /// Does what was done on the disk.
    pub(super) fn apply(&mut self, root: &Path, operation: &Operation<'_>) {
        match operation {
            Operation::Create { file, path, mode } => {
                let Some((folder, name)) = self.place(root, path) else { return };
                let id = self.add(Node::File(File { mode: *mode, durable_mode: *mode, ..File::default() }));
                self.files.insert(*file, id);
                self.change_names(vec![(folder, name, Some(id))]);
            }
            Operation::Open { file, path } => {
                if let Some(id) = self.find(root, path) {
                    self.files.insert(*file, id);
                }
            }
            Operation::Write { file, offset, data, .. } => {
                let offset = usize::try_from(*offset).expect("files of tests are small");
                self.change(*file, Change::Write { offset, data: data.to_vec() });
            }
            Operation::SetLength { file, length, .. } => {
                let length = usize::try_from(*length).expect("files of tests are small");
                self.change(*file, Change::SetLength(length));
            }
            Operation::SetMode { file, mode, .. } => {
                if let Some(file) = self.file(*file) {
                    file.mode = *mode;
                }
            }
            Operation::SyncData { file, .. } => self.sync_file(*file, false),
            Operation::SyncAll { file, .. } => self.sync_file(*file, true),
            Operation::SyncFolder { path } => {
                if let Some(folder) = self.find(root, path) {
                    self.sync_folder(folder);
                }
            }
            Operation::SyncFilesystem { .. } => {
                // What cannot be read is as if it were not there.
                let _ = self.rescan(root);
                self.sync_everything();
            }
            _ => self.apply_to_names(root, operation),
        }
    }

    fn apply_to_names(&mut self, root: &Path, operation: &Operation<'_>) {
        match operation {
            Operation::Rename { from, to } => {
                let (Some(node), Some(old), Some(new)) =
                    (self.find(root, from), self.place(root, from), self.place(root, to))
                else {
                    return;
                };
                self.change_names(vec![(old.0, old.1, None), (new.0, new.1, Some(node))]);
            }
            Operation::HardLink { from, to } => {
                let (Some(node), Some(new)) = (self.find(root, from), self.place(root, to)) else { return };
                self.change_names(vec![(new.0, new.1, Some(node))]);
            }
            Operation::RemoveFile { path } => {
                let Some((folder, name)) = self.place(root, path) else { return };
                self.change_names(vec![(folder, name, None)]);
            }
            Operation::RemoveTree { path } => {
                let Some((folder, name)) = self.place(root, path) else { return };
                if let Some(node) = self.find(root, path) {
                    self.remove_inside(node);
                }
                self.change_names(vec![(folder, name, None)]);
            }
            Operation::CreateFolder { path, mode } => {
                let Some((folder, name)) = self.place(root, path) else { return };
                let id = self.add(Node::Folder { mode: *mode, current: Names::new(), durable: Names::new() });
                self.change_names(vec![(folder, name, Some(id))]);
            }
            _ => {}
        }
    }

    /// Names go one by one, the deepest first, so that a cut may come between.
    fn remove_inside(&mut self, node: NodeId) {
        let Node::Folder { current, .. } = &self.nodes[node] else { return };
        for (name, child) in current.clone() {
            self.remove_inside(child);
            self.change_names(vec![(node, name, None)]);
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn file(&mut self, file: FileId) -> Option<&mut File> {
        match self.files.get(&file).map(|id| &mut self.nodes[*id]) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    fn change(&mut self, file: FileId, change: Change) {
        if let Some(file) = self.file(file) {
            change.apply(&mut file.current);
            file.unsynced.push(change);
        }
    }

    fn sync_file(&mut self, file: FileId, attributes: bool) {
        if let Some(file) = self.file(file) {
            file.sync();
            if attributes {
                file.durable_mode = file.mode;
            }
        }
    }

    fn change_names(&mut self, edits: Vec<(NodeId, OsString, Option<NodeId>)>) {
        for (folder, name, node) in &edits {
            if let Node::Folder { current, .. } = &mut self.nodes[*folder] {
                edit(current, name, *node);
            }
        }
        self.pending.push(NameChange { edits });
    }

    fn sync_folder(&mut self, folder: NodeId) {
        let pending = std::mem::take(&mut self.pending);
        let mut left: Vec<NameChange> = Vec::new();
        for change in pending {
            if !change.edits.iter().any(|(touched, ..)| *touched == folder) {
                left.push(change);
                continue;
            }
            for (folder, name, node) in &change.edits {
                if let Node::Folder { durable, .. } = &mut self.nodes[*folder] {
                    edit(durable, name, *node);
                }
                // Older changes of the same name are overtaken.
                for older in &mut left {
                    older.edits.retain(|(other, other_name, _)| (other, other_name) != (folder, name));
                }
            }
        }
        left.retain(|change| !change.edits.is_empty());
        self.pending = left;
    }

    fn sync_everything(&mut self) {
        self.pending.clear();
        for node in &mut self.nodes {
            match node {
                Node::File(file) => {
                    file.sync();
                    file.durable_mode = file.mode;
                }
                Node::Folder { current, durable, .. } => durable.clone_from(current),
                Node::Link(_) => {}
            }
        }
    }

    fn find(&self, root: &Path, path: &Path) -> Option<NodeId> {
        let mut node = ROOT;
        for name in path.strip_prefix(root).ok()?.components() {
            let Node::Folder { current, .. } = &self.nodes[node] else { return None };
            node = *current.get(name.as_os_str())?;
        }
        Some(node)
    }

    fn place(&self, root: &Path, path: &Path) -> Option<(NodeId, OsString)> {
        Some((self.find(root, path.parent()?)?, path.file_name()?.to_owned()))
    }

    fn adopt_path(&mut self, root: &Path, path: &Path) -> io::Result<()> {
        let Ok(relative) = path.strip_prefix(root) else { return Ok(()) };
        let mut folder = ROOT;
        let mut real = root.to_owned();
        for component in relative.components() {
            let name = component.as_os_str();
            real.push(name);
            let Node::Folder { current, .. } = &self.nodes[folder] else { return Ok(()) };
            match current.get(name) {
                Some(node) => folder = *node,
                None if real.symlink_metadata().is_ok() => return self.adopt(folder, name, &real),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Takes in something that was made beside the seam: nothing of it is synced.
    fn adopt(&mut self, folder: NodeId, name: &OsStr, real: &Path) -> io::Result<()> {
        let metadata = real.symlink_metadata()?;
        let mode = metadata.permissions().mode() & 0o7777;
        let node = if metadata.is_dir() {
            Node::Folder { mode, current: Names::new(), durable: Names::new() }
        } else if metadata.is_symlink() {
            Node::Link(fs::read_link(real)?)
        } else if metadata.is_file() {
            let data = fs::read(real)?;
            let unsynced = vec![Change::Write { offset: 0, data: data.clone() }];
            Node::File(File { current: data, mode, durable_mode: mode, unsynced, ..File::default() })
        } else {
            return Ok(());
        };
        let id = self.add(node);
        self.change_names(vec![(folder, name.to_owned(), Some(id))]);
        if metadata.is_dir() { self.rescan_folder(id, real) } else { Ok(()) }
    }

    /// Takes in everything that changed beside the seam.
    pub(super) fn rescan(&mut self, root: &Path) -> io::Result<()> {
        self.rescan_folder(ROOT, root)
    }

    fn rescan_folder(&mut self, folder: NodeId, real: &Path) -> io::Result<()> {
        let mut gone = match &self.nodes[folder] {
            Node::Folder { current, .. } => current.clone(),
            _ => return Ok(()),
        };
        for entry in fs::read_dir(real)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_bytes().ends_with(b"-shm") {
                continue;
            }
            let metadata = entry.metadata()?;
            let known = gone.remove(&name);
            match known.map(|id| (id, &mut self.nodes[id])) {
                Some((id, Node::Folder { .. })) if metadata.is_dir() => {
                    self.rescan_folder(id, &entry.path())?;
                }
                Some((_, Node::File(file))) if metadata.is_file() => file.refresh(fs::read(entry.path())?),
                Some((_, Node::Link(_))) if metadata.is_symlink() => {}
                _ => self.adopt(folder, &name, &entry.path())?,
            }
        }
        for (name, _) in gone {
            self.change_names(vec![(folder, name, None)]);
        }
        Ok(())
    }

    pub(super) fn materialise(&self, unsynced: Unsynced, target: &Path) -> io::Result<()> {
        let mut dice = Dice::new(if let Unsynced::Torn(seed) = unsynced { seed } else { 0 });
        let names = self.names_after(unsynced, &mut dice);
        self.lay_out(ROOT, &names, unsynced, &mut dice, target)
    }

    /// The names in every folder, in the order of the nodes.
    fn names_after(&self, unsynced: Unsynced, dice: &mut Dice) -> Vec<Names> {
        let take_current = matches!(unsynced, Unsynced::Kept | Unsynced::NamesOnly);
        let mut names: Vec<Names> = self
            .nodes
            .iter()
            .map(|node| match node {
                Node::Folder { current, .. } if take_current => current.clone(),
                Node::Folder { durable, .. } => durable.clone(),
                _ => Names::new(),
            })
            .collect();
        if let Unsynced::Torn(_) = unsynced {
            let arrived = dice.below(self.pending.len() + 1);
            for (folder, name, node) in self.pending.iter().take(arrived).flat_map(|change| &change.edits) {
                edit(&mut names[*folder], name, *node);
            }
        }
        names
    }

    #[expect(clippy::disallowed_methods, reason = "this lays out what a test looks at")]
    fn lay_out(
        &self,
        folder: NodeId,
        names: &[Names],
        unsynced: Unsynced,
        dice: &mut Dice,
        target: &Path,
    ) -> io::Result<()> {
        for (name, id) in &names[folder] {
            let path = target.join(name);
            let mode = match &self.nodes[*id] {
                Node::Folder { mode, .. } => {
                    fs::create_dir(&path)?;
                    self.lay_out(*id, names, unsynced, dice, &path)?;
                    *mode
                }
                Node::Link(to) => {
                    symlink(to, &path)?;
                    continue;
                }
                Node::File(file) => {
                    fs::write(&path, file.bytes_after(unsynced, dice))?;
                    if unsynced == Unsynced::Kept { file.mode } else { file.durable_mode }
                }
            };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

impl File {
    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// Takes in what was written beside the seam.
    fn refresh(&mut self, data: Vec<u8>) {
        if data == self.current {
            return;
        }
        self.unsynced.push(Change::SetLength(data.len()));
        self.unsynced.push(Change::Write { offset: 0, data: data.clone() });
        self.current = data;
    }

    fn bytes_after(&self, unsynced: Unsynced, dice: &mut Dice) -> Vec<u8> {
        match unsynced {
            Unsynced::Kept => self.current.clone(),
            Unsynced::Dropped | Unsynced::NamesOnly => self.durable.clone(),
            Unsynced::Torn(_) => {
                let mut bytes = self.durable.clone();
                for change in &self.unsynced {
                    match (dice.below(3), change) {
                        (0, _) => {}
                        (1, Change::Write { offset, data }) => {
                            let sectors = dice.below(data.len().div_ceil(SECTOR) + 1);
                            let data = data[..data.len().min(sectors * SECTOR)].to_vec();
                            Change::Write { offset: *offset, data }.apply(&mut bytes);
                        }
                        (_, change) => change.apply(&mut bytes),
                    }
                }
                bytes
            }
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::SetLength(length) => bytes.resize(*length, 0),
            Self::Write { data, .. } if data.is_empty() => {}
            Self::Write { offset, data } => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
        }
    }
}

fn edit(names: &mut Names, name: &OsStr, node: Option<NodeId>) {
    match node {
        Some(node) => names.insert(name.to_owned(), node),
        None => names.remove(name),
    };
}

/// Numbers that look random and are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }
}
