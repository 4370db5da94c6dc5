//! Which fields an update changes.

/// One path of an update mask: the part before the first dot, and all that follows it.
///
/// Keys may contain dots themselves: `labels.containerd.io/gc.root` is the field `labels` and the key
/// `containerd.io/gc.root` (row C06).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPath<'a> {
    /// The field, for example `labels`.
    pub field: &'a str,
    /// The key below it, if the path names one.
    pub key: Option<&'a str>,
}

/// The paths of an update; none of them means that every mutable field is replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateMask(Vec<String>);

impl UpdateMask {
    /// The mask that replaces every mutable field.
    #[must_use]
    pub fn replace_all() -> Self {
        Self::default()
    }

    /// A mask of these paths.
    pub fn of(paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(paths.into_iter().map(Into::into).collect())
    }

    /// Whether every mutable field is replaced.
    #[must_use]
    pub fn replaces_all(&self) -> bool {
        self.0.is_empty()
    }

    /// The paths as they were given.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// The paths, split into field and key.
    pub fn paths(&self) -> impl Iterator<Item = FieldPath<'_>> {
        self.0.iter().map(|path| match path.split_once('.') {
            Some((field, key)) => FieldPath { field, key: Some(key) },
            None => FieldPath { field: path, key: None },
        })
    }
}
