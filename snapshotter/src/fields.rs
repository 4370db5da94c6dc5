//! What filters see of snapshots.

use std::borrow::Cow;

use corten_filter::Fields;

use crate::SnapshotInfo;

/// `kind`, `name`, `parent` and `labels.<key>` (row S09).
impl Fields for SnapshotInfo {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        let known = |text| (!str::is_empty(text)).then_some(Cow::Borrowed(text));
        match path {
            ["kind"] => Some(Cow::Borrowed(self.kind.as_str())),
            ["name"] => known(self.name.as_str()),
            ["parent"] => known(self.parent.as_str()),
            ["labels", key @ ..] => {
                self.labels.get(&key.join(".")).map(|value| Cow::Borrowed(value.as_str()))
            }
            _ => None,
        }
    }
}
