//! Names of entries, cleaned before anything is looked up.

/// Where an entry goes: a directory, by the name the archive uses for it, and a last component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// Without a leading or trailing slash, `.` or `..`; empty for the root.
    pub(crate) parent: Vec<u8>,
    /// One component.
    pub(crate) base: Vec<u8>,
}

impl Name {
    /// The name without its dots, which are resolved as text before any link is followed; what leads above the root
    /// stops at the root. Nothing for the root itself (row B01).
    pub(crate) fn clean(path: &[u8]) -> Option<Self> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in components(path) {
            if part == b".." {
                parts.pop();
            } else {
                parts.push(part);
            }
        }
        let base = parts.pop()?.to_vec();
        Some(Self { parent: parts.join(&b'/'), base })
    }
}

/// The components of a path, without empty ones and `.`.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// A path below a directory.
pub(crate) fn join(directory: &[u8], base: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return base.to_vec();
    }
    [directory, b"/", base].concat()
}
