//! The labels that say how a container's ids are mapped (rows O10 and S16).

use corten_types::{Error, Labels, Result};

pub(crate) const LABEL_USERS: &str = "containerd.io/snapshot/uidmapping";
pub(crate) const LABEL_GROUPS: &str = "containerd.io/snapshot/gidmapping";

/// The numbers of an owner on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// Who the container's root is on this machine; none if nothing is mapped.
///
/// # Errors
/// `InvalidArgument`: only one of the labels, one that is not `container:host:length[,...]`, or no entry for id 0.
pub(crate) fn container_root(labels: &Labels) -> Result<Option<Owner>> {
    match (labels.get(LABEL_USERS), labels.get(LABEL_GROUPS)) {
        (None, None) => Ok(None),
        (Some(users), Some(groups)) => {
            Ok(Some(Owner { user: host_root(LABEL_USERS, users)?, group: host_root(LABEL_GROUPS, groups)? }))
        }
        _ => Err(Error::invalid_argument(format!(
            "the labels {LABEL_USERS} and {LABEL_GROUPS} need each other"
        ))),
    }
}

fn host_root(label: &str, text: &str) -> Result<u32> {
    let wrong =
        || Error::invalid_argument(format!("label {label} is {text:?}, not container:host:length[,...]"));
    let mut root = None;
    for entry in text.split(',') {
        let numbers: Vec<u32> =
            entry.split(':').map(|part| part.parse().map_err(|_| wrong())).collect::<Result<_>>()?;
        let [container, host, length] = numbers[..] else { return Err(wrong()) };
        if container == 0 && length > 0 {
            root = root.or(Some(host));
        }
    }
    root.ok_or_else(|| Error::invalid_argument(format!("label {label} is {text:?}, which does not map id 0")))
}

#[cfg(test)]
mod tests {
    use corten_types::{ErrorKind, Labels};

    use super::{LABEL_GROUPS, LABEL_USERS, Owner, container_root};

    fn labels(users: Option<&str>, groups: Option<&str>) -> Labels {
        let both = [(LABEL_USERS, users), (LABEL_GROUPS, groups)];
        both.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect()
    }

    #[test]
    fn the_entry_of_id_zero_says_who_root_is() {
        let found = container_root(&labels(Some("5:1:5,0:1000:5"), Some("0:2000:65536")));
        assert_eq!(found.unwrap(), Some(Owner { user: 1000, group: 2000 }));
        assert_eq!(container_root(&Labels::new()).unwrap(), None);
    }

    #[test]
    fn labels_that_make_no_sense_are_refused() {
        for (users, groups) in [
            (Some("0:1:1"), None),
            (None, Some("0:1:1")),
            (Some("1:1:1"), Some("0:1:1")),
            (Some("0:1"), Some("0:1:1")),
            (Some("0:1:0"), Some("0:1:1")),
            (Some(""), Some("0:1:1")),
        ] {
            let refused = container_root(&labels(users, groups)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{users:?} {groups:?}");
        }
    }
}
