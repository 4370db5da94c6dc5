//! The description of a mount, as snapshotters hand it out (row R01).

/// What to mount, and how. Nothing is mounted by making one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// The filesystem type: `overlay`, `bind`, `tmpfs`, or a helper's name.
    pub kind: String,
    /// What is mounted: a folder, a device, or a word such as `overlay`.
    pub source: String,
    /// A folder below the target that the caller chooses; empty for the target itself.
    pub target: String,
    /// Options as in fstab, one word each.
    pub options: Vec<String>,
}
