//! Where a layer is unpacked to: straight into the folder behind a mount where that is possible (row D04).

use std::path::PathBuf;

use corten_types::Mount;

use crate::unpack::{Whiteouts, is_in_user_namespace};

/// How the mounts that a layer goes to are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Without mounting: a folder.
    Folder {
        /// The folder.
        path: PathBuf,
        /// How deletions are expressed in it.
        whiteouts: Whiteouts,
        /// What the layers below are, the nearest first.
        lower_layers: Vec<PathBuf>,
    },
    /// By mounting them.
    Mounts,
}

impl Target {
    pub(crate) fn of(mounts: &[Mount]) -> Self {
        Self::of_in(mounts, is_in_user_namespace())
    }

    fn of_in(mounts: &[Mount], is_in_user_namespace: bool) -> Self {
        let [mount] = mounts else { return Self::Mounts };
        if !mount.target.is_empty() {
            return Self::Mounts;
        }
        let has = |option: &str| mount.options.iter().any(|known| known == option);
        match mount.kind.as_str() {
            "overlay" => {
                let user_xattrs = has("userxattr");
                let upper = option_value(mount, "upperdir=");
                // Other namespaces than the first may not set trusted attributes.
                let (Some(upper), false) = (upper, is_in_user_namespace && !user_xattrs) else {
                    return Self::Mounts;
                };
                Self::Folder {
                    path: upper.into(),
                    whiteouts: Whiteouts::Overlay { user_xattrs },
                    lower_layers: lower_layers(mount),
                }
            }
            "bind" => {
                let is_mapped = ["uidmap=", "gidmap="].iter().any(|map| option_value(mount, map).is_some());
                if has("ro") || is_mapped {
                    return Self::Mounts;
                }
                let path = PathBuf::from(&mount.source);
                Self::Folder { path, whiteouts: Whiteouts::Remove, lower_layers: Vec::new() }
            }
            _ => Self::Mounts,
        }
    }
}

/// The last value of an option of the form `name=value`.
pub(crate) fn option_value<'a>(mount: &'a Mount, name: &str) -> Option<&'a str> {
    mount.options.iter().rev().find_map(|option| option.strip_prefix(name)).filter(|value| !value.is_empty())
}

/// The folders of `lowerdir`, the nearest first. Colons separate them; a backslash takes the next character as it is.
pub(crate) fn lower_layers(mount: &Mount) -> Vec<PathBuf> {
    let mut layers = Vec::new();
    let mut current = String::new();
    let mut characters = option_value(mount, "lowerdir=").unwrap_or_default().chars();
    while let Some(character) = characters.next() {
        match character {
            ':' => layers.push(std::mem::take(&mut current)),
            '\\' => current.extend(characters.next()),
            other => current.push(other),
        }
    }
    layers.push(current);
    layers.into_iter().filter(|layer| !layer.is_empty()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Mount { kind: kind.into(), source: source.into(), target: String::new(), options }
    }

    fn folder(path: &str, whiteouts: Whiteouts, lower_layers: &[&str]) -> Target {
        Target::Folder {
            path: path.into(),
            whiteouts,
            lower_layers: lower_layers.iter().map(PathBuf::from).collect(),
        }
    }

    #[test]
    fn one_overlay_is_unpacked_into_its_upper_folder() {
        let mounts = [mount("overlay", "overlay", &["workdir=/w", "upperdir=/u", r"lowerdir=/a:/b\:c::/d"])];
        let expected = folder("/u", Whiteouts::Overlay { user_xattrs: false }, &["/a", "/b:c", "/d"]);
        assert_eq!(Target::of_in(&mounts, false), expected);
        assert_eq!(Target::of_in(&mounts, true), Target::Mounts);
    }

    #[test]
    fn an_overlay_with_user_attributes_works_in_a_user_namespace() {
        let mounts = [mount("overlay", "overlay", &["upperdir=/u", "lowerdir=/a", "userxattr"])];
        let expected = folder("/u", Whiteouts::Overlay { user_xattrs: true }, &["/a"]);
        assert_eq!(Target::of_in(&mounts, true), expected);
    }

    #[test]
    fn one_bind_mount_is_unpacked_into_its_source() {
        let mounts = [mount("bind", "/s", &["rw", "rbind"])];
        assert_eq!(Target::of_in(&mounts, false), folder("/s", Whiteouts::Remove, &[]));
    }

    #[test]
    fn everything_else_is_mounted() {
        for mounts in [
            vec![],
            vec![mount("overlay", "overlay", &["lowerdir=/a:/b"])],
            vec![mount("bind", "/s", &["ro", "rbind"])],
            vec![mount("bind", "/s", &["rbind", "uidmap=0:1000:10"])],
            vec![mount("tmpfs", "tmpfs", &[])],
            vec![mount("bind", "/s", &["rbind"]), mount("bind", "/t", &["rbind"])],
            vec![Mount { target: "sub".into(), ..mount("bind", "/s", &["rbind"]) }],
        ] {
            assert_eq!(Target::of_in(&mounts, false), Target::Mounts, "{mounts:?}");
        }
    }
}
