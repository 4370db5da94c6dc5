//! What is done to a mount before it is mounted (R10).

mod format;
mod mkdir;
mod mkfs;

use corten_disk::Disk;
use corten_types::{Mount, Result};

use crate::{record::ActiveMount, roots::Roots};

/// A transformation, by the word that types begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transform {
    /// Puts what was mounted before into source, target and options.
    Format,
    /// Makes and formats the image that is the source.
    Mkfs,
    /// Makes folders that options name.
    Mkdir,
}

impl Transform {
    const ALL: [Self; 3] = [Self::Format, Self::Mkfs, Self::Mkdir];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Mkfs => "mkfs",
            Self::Mkdir => "mkdir",
        }
    }

    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|transform| transform.word() == word)
    }

    /// The mount as it is after the transformation.
    ///
    /// # Errors
    /// `InvalidArgument`: a malformed template or option. `PermissionDenied`: a path outside of `roots`. Others if a
    /// folder or an image cannot be made. Folders that were made before the failure stay.
    pub(crate) fn apply(
        self,
        mount: Mount,
        earlier: &[ActiveMount],
        roots: &Roots,
        disk: &Disk,
    ) -> Result<Mount> {
        match self {
            Self::Format => format::apply(mount, earlier),
            Self::Mkfs => mkfs::apply(mount, roots, disk),
            Self::Mkdir => mkdir::apply(mount, roots),
        }
    }
}
